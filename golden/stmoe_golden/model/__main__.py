"""``python -m stmoe_golden.model [FILE]``: perplexity of a model on the text that it carries, as it
is, with weights of four bits, and either with the projections of attention in integers too."""

import sys

from ..compute.four_bit import GROUPS
from .error import ModelError
from .evaluation import hardware, perplexities
from .projections import BatchProjections, calibration, quantise_projections
from .storage import load_model


def main(arguments: list[str]) -> int:
    """Print a row per domain and arithmetic; 1 if the file is wrong."""
    try:
        model = load_model(*arguments[:1])
    except ModelError as error:
        print(error, file=sys.stderr)
        return 1
    scores = perplexities(model, model.heldout)
    fitted = {0: model}
    for group in GROUPS:
        widths = [(n, min(group, n)) for n in (model.shape.d_model, model.shape.d_ff)]
        if all(size in GROUPS and n % size == 0 for n, size in widths):
            fitted[group] = model.four_bits(group)
            for domain, score in hardware(fitted[group], model.heldout).items():
                scores[domain][f"4 bits, by {group}"] = score
    columns = model.shape.d_model // 2
    try:
        tokens = calibration(model)
    except ModelError as error:
        print(f"no attention in integers: {error}", file=sys.stderr)
    else:
        for group, those in fitted.items():
            if columns % (group or 1) == 0:
                whole = BatchProjections(quantise_projections(those, tokens).fit(group), columns)
                for domain, score in hardware(those, model.heldout, whole).items():
                    scores[domain]["and attention" + f", by {group}" * bool(group)] = score
    known = model.facts.get("sample", {})
    print(f"{'domain':10} {'arithmetic':20} {'perplexity':>10} {'of float':>9}")
    for domain, ways in scores.items():
        reference = known.get(domain, {}).get("perplexity")
        if reference:
            print(f"{domain:10} {'checkpoint':20} {reference:10.4f} {1:9.4f}")
        for name, entry in ways.items():
            ratio = f"{entry['perplexity'] / reference:9.4f}" if reference else f"{'':9}"
            print(f"{domain:10} {name:20} {entry['perplexity']:10.4f} {ratio}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
