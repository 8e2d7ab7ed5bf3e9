"""The model card: what the model is, how good it is, what its files are and how to load them, in Markdown."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

TITLES = {
    "baseline": "original",
    "teacher": "original, trained further",
    "after_fit": "after the fit",
    "final": "**compressed**",
}
"""What each accuracy of a report is of."""
LOADING = {
    "model.adtn.safetensors": (
        "the gates and what stayed dense",
        "from adtn_loader import decode  # the file beside it; needs torch and safetensors only\n\n"
        'model.load_state_dict(decode("model.adtn.safetensors"))',
    ),
    "model.dense.safetensors": (
        "the decoded weights, with the keys, shapes and dtypes of the original",
        'from safetensors.torch import load_file\n\nmodel.load_state_dict(load_file("model.dense.safetensors"))',
    ),
    "model.dense.pt": (
        "the same for torch, tied tensors shared",
        'import torch\n\nmodel.load_state_dict(torch.load("model.dense.pt", weights_only=True))',
    ),
    "model.onnx": (
        "network and gates; the runtime decodes them once, when it loads the file",
        "import onnxruntime\n\n"
        'session = onnxruntime.InferenceSession("model.onnx")\n'
        '(outputs,) = session.run(["output"], {"input": inputs})  # inputs: a float32 array, (batch, ...)',
    ),
    "model.pt2": (
        "network and gates as a program of torch, which decodes them in each call",
        'import torch\n\nprogram = torch.export.load("model.pt2").module()\noutputs = program(inputs)',
    ),
}
"""Of each artifact that holds the model: what it is, and the lines that load it."""


def model_card(report: Mapping[str, Any], names: Sequence[str]) -> str:
    """The card.

    Args:
        report: Of the job.
        names: Of the artifacts that hold the model.
    """
    sections = [
        _heading(report),
        _accuracy(report),
        _layers(report["parameters"]),
        _files(report, [name for name in LOADING if name in names]),
        _caveats(report),
    ]
    return "\n\n".join("\n".join(section) for section in map(list, sections) if section) + "\n"


def _heading(report: Mapping[str, Any]) -> Iterator[str]:
    counts = report["parameters"]
    yield f"# {_inline(report['settings'].get('name') or 'Compressed model')}"
    yield ""
    yield (
        f"{counts['original']:,} parameters stored as {counts['compressed']:,} numbers (ratio {counts['ratio']:g}): "
        "weights are ADTNs, deep automatically differentiable tensor networks (arXiv:2305.06058)."
    )


def _accuracy(report: Mapping[str, Any]) -> Iterator[str]:
    found = report["accuracy"]
    if found is None:
        yield "**The accuracy was not measured**: there was no model or no data. Measure it before you rely on it."
        return
    yield f"| {found['metric']} on {found['samples']:,} test samples | accuracy | 95 % interval |"
    yield "|---|---|---|"
    for name, title in TITLES.items():
        if found[name] is None:
            continue
        low, high = found["interval_95"][name]
        yield f"| {title} | {100 * found[name]:.2f} % | {100 * low:.2f} to {100 * high:.2f} % |"
    change = found["change"]
    low, high = change["interval"]
    yield ""
    yield (
        f"Both models saw the same samples: the compressed one lost {change['lost']:,} right answers of the original "
        f"and won {change['won']:,}, a change of {change['points']:+.2f} points, 95 % interval {low:+.2f} to "
        f"{high:+.2f}."
    )


def _layers(counts: Mapping[str, Any]) -> Iterator[str]:
    yield "| encoded layer | shape | parameters | numbers stored | relative error |"
    yield "|---|---|---|---|---|"
    for row in counts["layers"]:
        shape = " x ".join(map(str, row["shape"]))
        bits = "" if row["bits"] is None else f" of {row['bits']} bits"
        yield (
            f"| {_inline(row['name'])} | {shape} | {row['original']:,} | {row['compressed']:,}{bits} "
            f"| {row['relative_error']:.3f} |"
        )
    names: dict[str, list[str]] = {}
    for skipped in counts["skipped"]:
        names.setdefault(skipped["reason"], []).append(skipped["name"])
    for reason, alike in names.items():
        yield ""
        yield f"Left dense: {_inline(', '.join(alike))} ({_inline(reason)})."


def _files(report: Mapping[str, Any], names: Sequence[str]) -> Iterator[str]:
    sizes = report["bytes"]["artifacts"]
    yield "## Files"
    yield ""
    yield f"`sha256sum -c SHA256SUMS` checks them. The original's tensors had {report['bytes']['tensors']:,} bytes."
    for name in names:
        what, code = LOADING[name]
        yield f"\n`{name}`, {sizes[name]:,} bytes: {what}.\n\n```python\n{code}\n```"


def _caveats(report: Mapping[str, Any]) -> Iterator[str]:
    yield "## Caveats"
    yield ""
    yield "- Each file was opened in a fresh process after it was written, and did there what this page says."
    yield "- Decoded weights take the memory of the original ones: what gets smaller are the files."
    for note in (report["dataset"] or {}).get("notes", []):
        yield f"- The data: {_inline(note)}."
    for warning in report["warnings"]:
        yield f"- `{warning['code']}`: {warning['detail']}."


def _inline(text: str) -> str:
    """A name of the user's as text of Markdown: nothing in it is a table's border, a link or HTML."""
    return "".join(f"\\{character}" if character in "\\`*_[]<>|#&!" else character for character in text)
