"""A report as text."""

from typing import Any

from adtn_client.commands import output


def show_report(report: dict[str, Any]) -> None:
    """Print a report: accuracy, sizes, a table of the layers, times."""
    show_layers(report["parameters"]["layers"])
    for name, text in summary(report):
        output.result(f"{name:<25}{text}")


def show_layers(layers: list[dict[str, Any]]) -> None:
    """Print a table of the encoded layers."""
    right = frozenset({"original", "compressed", "ratio", "rel. error"})
    table = output.table(
        "layer", "kind", "shape", "original", "compressed", "ratio", "rel. error", "structure", right=right
    )
    for layer in layers:
        structure = layer["structure"]
        output.add_row(
            table,
            layer["name"],
            layer["kind"],
            output.shape(layer["shape"]),
            output.count(layer["original"]),
            output.count(layer["compressed"]),
            f"{layer['original'] / layer['compressed']:.1f}",
            decimals(layer["relative_error"]),
            f"{structure['sites']} sites, depth {structure['depth']}, gates over {structure['gate_sites']}, "
            f"{structure['activation']}",
        )
    output.console().print(table)


def summary(report: dict[str, Any]) -> list[tuple[str, str]]:
    """The rest of a report, as pairs of a name and a text."""
    sizes, encoded = report["parameters"], report["parameters"]["encoded"]
    lines = [
        ("accuracy", accuracy(report)),
        ("encoded layers", f"{change(encoded)} parameters, ratio {encoded['ratio']:.1f}"),
        ("whole model", f"{change(sizes)} parameters, ratio {sizes['ratio']:.2f}"),
        ("checkpoint", output.size(report["bytes"]["checkpoint"])),
    ]
    lines += [(name, output.size(size)) for name, size in sorted(report["bytes"]["artifacts"].items())]
    lines.append(("seconds", ", ".join(f"{name} {seconds:.1f}" for name, seconds in report["seconds"].items())))
    verified = report.get("verified") or {}
    if verified:
        lines.append(("verified", "reproduced in a fresh process" if verified.get("fresh_process") else "no"))
    return lines


def accuracy(report: dict[str, Any]) -> str:
    """The accuracies in one line."""
    measured = report.get("accuracy")
    if not measured:
        return "not measured: there were no data"
    percent = {
        name: f"{measured[name]:.2%}" for name in ("baseline", "after_fit", "final") if measured[name] is not None
    }
    steps = [f"{percent[name]} {label}" for name, label in ACCURACIES if name in percent]
    return f"{', '.join(steps)} ({measured['metric']} of {output.count(measured['samples'])})"


ACCURACIES = (("baseline", "before"), ("after_fit", "after the fit"), ("final", "at the end"))


def change(sizes: dict[str, Any]) -> str:
    """A count before and after."""
    return f"{output.count(sizes['original'])} -> {output.count(sizes['compressed'])}"


def decimals(value: float | None) -> str:
    """A relative error, or nothing."""
    return "" if value is None else f"{value:.3f}"
