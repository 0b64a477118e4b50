"""The measurements as tables of the model card."""

from typing import Any

__all__ = ["perplexity_table", "routing_tables"]


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def perplexity_table(scores: dict[str, dict[str, dict[str, Any]]]) -> str:
    """Markdown of :func:`~stmoe_golden.model.evaluation.perplexities`."""
    rows = []
    for domain, ways in scores.items():
        for name, entry in ways.items():
            change = "unknown"
            if "float" in ways:
                ratio = entry["perplexity"] / ways["float"]["perplexity"]
                change = f"{100 * (ratio - 1):+.2f} %"
            rows.append([domain, name, f"{entry['perplexity']:.4f}", change,
                         f"{entry['bits_per_byte']:.4f}", f"{entry['tokens']:,}"])
    return _table(["domain", "arithmetic", "perplexity", "against float", "bits per byte",
                   "tokens"], rows)


def routing_tables(statistics: dict[str, Any]) -> dict[str, str]:
    """Markdown by name: "balance", "pairs", "overlap", of the statistics of the routing."""
    domains = statistics["domains"]
    names = list(domains)
    apart = statistics.get("divergence")
    balance, pairs, overlap = [], [], []
    for layer in range(len(domains[names[0]]["balance"])):
        cells = [str(layer)]
        for name in names:
            entry = domains[name]["balance"][layer]
            cells += [f"{entry['max']:.2f}", f"{entry['min']:.2f}",
                      f"{entry['effective_experts']:.1f}"]
        balance.append(cells + ([f"{apart[layer]:.2f}"] if apart else []))
        cells = [str(layer)]
        for name in names:
            shared = domains[name]["overlap"]
            cells += [f"{shared['mean'][0][layer]:.2f}", f"{shared['popular'][layer]:.2f}"]
        overlap.append(cells)
    for layer in range(len(domains[names[0]]["pairs"])):
        cells = [f"{layer} to {layer + 1}"]
        for name in names:
            pair = domains[name]["pairs"][layer]
            cells += [f"{pair['statistic']:,.0f} ({pair['freedom']})",
                      f"{pair['shuffled_statistic']:,.0f}", f"{pair['log10_p']:,.0f}",
                      f"{pair['cramers_v']:.3f}"]
        pairs.append(cells)

    def head(first: str, columns: list[str]) -> list[str]:
        return [first, *(f"{name}: {column}" for name in names for column in columns)]

    return {
        "balance": _table(head("layer", ["max", "min", "effective"])
                          + (["total variation"] if apart else []), balance),
        "pairs": _table(head("layers", ["chi-squared (df)", "shuffled", "log10 p", "V"]), pairs),
        "overlap": _table(head("layer", ["shared", "popularity alone"]), overlap)}
