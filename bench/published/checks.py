"""What the reports say, found again in the files that were downloaded and in the code of the models' authors."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

from bench.published.forms import ADTN_FILE, FILES, Forward, as_forward, opened
from bench.published.job import Finished
from bench.published.model import Published
from bench.published.samples import Split
from bench.service import check_claims, stored_numbers
from bench.timing import difference

EXACT = ("adtn", "dense", "dense_pt")
"""Forms that must have the reported accuracy; the others add up in another order."""
ACCURACY_TOLERANCE = 0.001
OUTPUT_TOLERANCE = 1e-3
"""Relative to the largest."""
MOST_ONNX_BYTES = 2.0
"""For each byte of the stored numbers, and `ONNX_ROOM` besides."""
ONNX_ROOM = 64 * 2**10
BATCH = 250


def check_with_data(model: Published, test: Split, finished: Finished) -> dict[str, dict[str, float]]:
    """Evaluate every form.

    Args:
        model: Whose job it was.
        test: The split that the report is about.
        finished: The job.

    Returns:
        For each form its accuracy, and by how much its outputs differ from those of the dense weights.

    Raises:
        SystemExit: A form, the original, a count or a size is not what is reported or promised.
    """
    reported = finished.report["accuracy"]
    before = accuracy(outputs(as_forward(model.original(), model.dtype), test.inputs), test.labels)
    check_claims({"accuracy of the original": (before, reported["baseline"])})
    answers = {form: outputs(forward, test.inputs) for form, forward in opened(model, finished.folder).items()}
    if answers.keys() != FILES.keys():
        raise SystemExit(f"{model.name}: expected files of {sorted(FILES)}, got {sorted(answers)}")
    found = {
        form: {"accuracy": accuracy(answer, test.labels), "difference": difference(answer, answers["dense"])}
        for form, answer in answers.items()
    }
    for form, figures in found.items():
        claim = {f"accuracy of {form}": (figures["accuracy"], reported["final"])}
        check_claims(claim, 0.0 if form in EXACT else ACCURACY_TOLERANCE)
        check_claims({f"outputs of {form}": (figures["difference"], 0.0)}, OUTPUT_TOLERANCE)
    _check_numbers(finished)
    check_onnx_size((finished.folder / FILES["onnx"]).stat().st_size, bytes_of_numbers(finished.folder / ADTN_FILE))
    return found


def check_alone(model: Published, test: Split, finished: Finished) -> float:
    """Compare the weights of a job without data with those that were published.

    Args:
        model: Whose job it was.
        test: Samples that the job has never seen.
        finished: The job.

    Returns:
        The accuracy, which the job could not know.

    Raises:
        SystemExit: A form differs from the others, or a weight by another error than the report says.
    """
    published, compressed = model.original().state_dict(), load_file(finished.folder / FILES["dense"])
    encoded = {layer["name"]: layer["relative_error"] for layer in finished.report["parameters"]["layers"]}
    for key, tensor in published.items():
        error = float((compressed[key] - tensor).double().norm() / tensor.double().norm().clamp_min(1e-30))
        name = key if key in encoded else key.removesuffix(".weight")
        check_claims({f"error of {key}": (error, encoded.get(name, 0.0))}, 1e-4 if name in encoded else 0.0)
    _check_numbers(finished)
    answers = {form: outputs(forward, test.inputs) for form, forward in opened(model, finished.folder).items()}
    for form, answer in answers.items():
        check_claims({f"outputs of {form}": (difference(answer, answers["dense"]), 0.0)}, OUTPUT_TOLERANCE)
    return accuracy(answers["dense"], test.labels)


@torch.no_grad()
def outputs(forward: Forward, inputs: Tensor) -> Tensor:
    """Of all samples, (N, classes)."""
    return torch.cat([forward(part) for part in torch.split(inputs, BATCH)])


def accuracy(answers: Tensor, labels: Tensor) -> float:
    """Top-1, from 0 to 1."""
    return float((answers.argmax(1) == labels).double().mean())


def bytes_of_numbers(path: Path) -> int:
    """Of all tensors in a safetensors file, without its header."""
    with safe_open(path, "pt") as file:
        tensors = [file.get_tensor(key) for key in file.keys()]  # noqa: SIM118
    return sum(tensor.nbytes for tensor in tensors)


def check_onnx_size(size: int, numbers: int) -> None:
    """Refuse an ONNX file that is larger than promised for so many bytes of stored numbers.

    Raises:
        SystemExit: It is.
    """
    most = MOST_ONNX_BYTES * numbers + ONNX_ROOM
    if size > most:
        raise SystemExit(f"onnx: expected at most {most:.0f} bytes for {numbers} of numbers, got {size}")


def _check_numbers(finished: Finished) -> None:
    counted: Mapping[str, Any] = finished.report["parameters"]["encoded"]
    check_claims({"numbers in the file": (stored_numbers(finished.folder / ADTN_FILE), counted["compressed"])})
