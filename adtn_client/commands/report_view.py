"""A report as text."""

from collections.abc import Mapping
from typing import Any

from adtn_client.commands import output
from jobs.schemas.report import Accuracy, Counts, Parameters, Report, ReportedLayer, Search

ACCURACIES = (
    ("baseline", "before"),
    ("teacher", "trained further"),
    ("after_fit", "after the fit"),
    ("final", "at the end"),
)


def show_report(report: Report) -> None:
    """Print a report: a table of the layers, then accuracy, sizes and times."""
    show_layers(report.parameters.layers)
    for name, text in summary(report):
        output.result(f"{name:<25}{text}")
    for name, read in (("checkpoint", report.checkpoint), ("dataset", report.dataset)):
        for note in read.notes if read else []:  # neither is in the reports of older workers
            output.result(f"{name:<25}{note}")
    for warned in report.warnings:
        output.result(f"{'warning':<25}{warned.detail}")


def show_layers(layers: list[ReportedLayer]) -> None:
    """Print a table of the encoded layers."""
    numbers = ("original", "compressed", "ratio", "bits", "bytes", "rel. error")
    table = output.table("layer", "kind", "shape", *numbers, "structure", right=frozenset(numbers))
    for layer in layers:
        output.add_row(
            table,
            layer.name,
            layer.kind,
            output.shape(layer.shape),
            output.count(layer.original),
            output.count(layer.compressed),
            f"{layer.original / layer.compressed:.1f}",
            layer.bits or "float",
            "" if layer.bytes is None else output.count(layer.bytes),
            "" if layer.relative_error is None else f"{layer.relative_error:.3f}",
            output.structure(layer.structure),
        )
    output.console().print(table)


def summary(report: Report) -> list[tuple[str, str]]:
    """The rest of a report, as pairs of a name and a text."""
    verified = bool(report.verified and report.verified.get("fresh_process"))
    gates = report.bytes.get("encoded")  # not in the reports of older workers
    return [
        ("accuracy", accuracy(report.accuracy)),
        *paired(report.accuracy),
        ("encoded layers", change(report.parameters.encoded)),
        *left_dense(report.parameters),
        ("whole model", change(report.parameters)),
        *([("encoded bytes", bytes_change(gates))] if gates else []),
        *search(report.search),
        ("checkpoint", output.size(report.bytes["checkpoint"])),
        *((name, output.size(size)) for name, size in sorted(report.bytes["artifacts"].items())),
        ("seconds", ", ".join(f"{name} {seconds:.1f}" for name, seconds in report.seconds.items())),
        ("verified", "reproduced in a fresh process" if verified else "no"),
    ]


def accuracy(measured: Accuracy | None) -> str:
    """The accuracies in one line."""
    if measured is None or measured.final is None:
        return "not measured: there were no data"
    shares = [(getattr(measured, name), label) for name, label in ACCURACIES]
    steps = ", ".join(f"{share:.2%} {label}" for share, label in shares if share is not None)
    return f"{steps} ({measured.metric} of {output.count(measured.samples or 0)})"


def paired(measured: Accuracy | None) -> list[tuple[str, str]]:
    """What became of the answers, sample by sample, as a line; none without data, or from an older worker."""
    if measured is None or measured.change is None:
        return []
    found, (low, high) = measured.change, measured.change.interval
    counts = f"{output.count(found.lost)} answers lost, {output.count(found.won)} won"
    return [("change", f"{found.points:+.2f} points ({low:+.2f} to {high:+.2f} at 95 %): {counts}")]


def left_dense(parameters: Parameters) -> list[tuple[str, str]]:
    """The layers that were looked at and stayed dense, as a line for each reason."""
    names: dict[str, list[str]] = {}
    for skipped in parameters.skipped:
        names.setdefault(skipped.reason, []).append(skipped.name)
    return [("left dense", f"{', '.join(alike)}: {reason}") for reason, alike in names.items()]


def search(found: Search | None) -> list[tuple[str, str]]:
    """How the size was found, as a line; none where it was asked for."""
    if found is None:
        return []
    kept = min((trial for trial in found.trials if trial.kept), key=lambda trial: trial.parameters)
    accuracy = f"{kept.heldout_accuracy:.2%} of {output.count(found.heldout_samples)} held-out samples"
    return [("search", f"{len(found.trials)} trials; the smallest that keeps the accuracy has {accuracy}")]


def bytes_change(counts: Mapping[str, Any]) -> str:
    """The bytes of the encoded weights before and after."""
    return f"{output.size(counts['original'])} -> {output.size(counts['compressed'])}, ratio {counts['ratio']:.1f}"


def change(counts: Counts) -> str:
    """A count before and after."""
    numbers = f"{output.count(counts.original)} -> {output.count(counts.compressed)}"
    return f"{numbers} parameters, ratio {counts.ratio:.1f}"
