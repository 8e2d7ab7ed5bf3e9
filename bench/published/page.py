"""Writes the stored results into docs/published_models.md, and their headlines into README.md."""

from typing import Any

from bench.markers import DOCS, write_between
from bench.published.forms import FILES
from bench.published.run import MODELS, NAME, stored
from bench.readme import README
from bench.record import described

Result = dict[str, Any]

HEADLINES = (
    "| model | numbers of the encoded layers | compression ratio | accuracy before | after fit | after fine-tuning "
    "| 95 % interval | seconds (job) |\n|---|---|---|---|---|---|---|---|"
)
FORMS = (
    "| model | form | accuracy | bytes: original → compressed | ms, batch 1: original → compressed | ratio "
    "| ms, batch 64 | ratio |\n|---|---|---|---|---|---|---|---|"
)
ALONE = (
    "| model | numbers of the encoded layers | compression ratio | accuracy, which the job did not know "
    "| bytes: shipped → `adtn` | seconds (job) |\n|---|---|---|---|---|---|"
)


def write() -> None:
    """Put the tables between their markers."""
    found = stored()
    page = DOCS / "published_models.md"
    write_between(page, NAME, headlines(found))
    write_between(page, f"{NAME}-forms", forms(found))
    write_between(page, f"{NAME}-alone", alone(found))
    write_between(page, f"{NAME}-sources", sources(found))
    write_between(README, NAME, headlines(found))


def headlines(found: dict[str, Result]) -> str:
    """A line a model: what its job with data came to."""
    lines = [HEADLINES]
    for title, result in _titled(found):
        accuracy, encoded = result["accuracy"], result["parameters"]["encoded"]
        low, high = (f"{100 * end:.2f}" for end in accuracy["interval_95"]["final"])
        before, fit, final = (f"{100 * accuracy[name]:.2f}" for name in ("baseline", "after_fit", "final"))
        lines.append(
            f"| {title} | {_counts(encoded)} | {before} | {fit} | **{final}** | {low} to {high} "
            f"| {result['seconds']['job']:,.0f} |"
        )
    return "\n".join(lines)


def forms(found: dict[str, Result]) -> str:
    """A line a model and form: its accuracy, bytes and latency."""
    lines = [FORMS]
    for title, result in _titled(found):
        rows: dict[str, list[dict[str, Any]]] = {}
        for row in sorted(result["rows"], key=lambda row: int(row["batch"])):
            rows.setdefault(row["form"], []).append(row)
        for form, batches in rows.items():
            size, share = batches[0]["bytes"], result["forms"][form]["accuracy"]
            lines.append(
                f"| {title} | `{form}` | {100 * share:.2f} | {size['original']:,} → {size['compressed']:,} "
                f"| {' | '.join(_times(row) for row in batches)} |"
            )
    return "\n".join(lines)


def _times(row: dict[str, Any]) -> str:
    median = row["median"]
    return f"{1000 * median['original']:.2f} → {1000 * median['compressed']:.2f} | {median['ratio']:.2f}"


def alone(found: dict[str, Result]) -> str:
    """A line a model: what its job on weights alone came to."""
    lines = [ALONE]
    for title, result in _titled(found):
        fitted, shipped = result["alone"], next(row for row in result["rows"] if row["form"] == "adtn")
        lines.append(
            f"| {title} | {_counts(fitted['parameters']['encoded'])} | {100 * fitted['accuracy']:.2f} "
            f"| {shipped['bytes']['original']:,} → {fitted['artifacts'][FILES['adtn']]:,} | {fitted['seconds']:,.0f} |"
        )
    return "\n".join(lines)


def sources(found: dict[str, Result]) -> str:
    """A line a model: where it and the numbers come from."""
    lines = []
    for title, result in _titled(found):
        where, counts, package = result["provenance"], result["samples"], result["package"]
        machine = where["machine"]
        lines.append(
            f"- {title}: `{package['requirement']}` ({package['licence']}); {counts['train']:,} samples to train, "
            f"{counts['test']:,} to test. `{where['command']}` at {where['commit']}, "
            f"{described(machine)}, torch {machine['torch']}; latency on one thread, medians of "
            f"{len(result['rows'][0]['seconds']['original'])} rounds after loading."
        )
    return "\n".join(lines)


def _counts(encoded: dict[str, Any]) -> str:
    return f"{encoded['original']:,} → {encoded['compressed']:,} | {encoded['ratio']:.1f}"


def _titled(found: dict[str, Result]) -> list[tuple[str, Result]]:
    return [(model.title, found[model.name]) for model in MODELS if model.name in found]
