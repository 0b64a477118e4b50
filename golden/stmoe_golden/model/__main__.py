"""``python -m stmoe_golden.model [FILE]``: perplexity of a model on the text that it carries."""

import sys

from .error import ModelError
from .evaluation import perplexities
from .storage import load_model


def main(arguments: list[str]) -> int:
    """Print a row per domain and arithmetic; 1 if the file is wrong."""
    try:
        model = load_model(*arguments[:1])
    except ModelError as error:
        print(error, file=sys.stderr)
        return 1
    known = model.facts.get("sample", {})
    print(f"{'domain':10} {'arithmetic':14} {'perplexity':>10} {'of float':>9}")
    for domain, ways in perplexities(model, model.heldout).items():
        reference = known.get(domain, {}).get("perplexity")
        if reference:
            print(f"{domain:10} {'checkpoint':14} {reference:10.4f} {1:9.4f}")
        for name, entry in ways.items():
            ratio = f"{entry['perplexity'] / reference:9.4f}" if reference else f"{'':9}"
            print(f"{domain:10} {name:14} {entry['perplexity']:10.4f} {ratio}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
