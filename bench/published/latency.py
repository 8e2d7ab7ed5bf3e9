"""Bytes and latency of each form, next to the same form of the original."""

import warnings
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bench.published.forms import FILES, as_forward, onnx_forward, opened, program
from bench.published.job import PROGRAM
from bench.published.model import Published
from bench.timing import Pair, check, timed

BATCHES = (1, 64)
ONNX = "original.onnx"


@torch.no_grad()
def measured(model: Published, inputs: Tensor, folder: Path, made: Path) -> list[dict[str, Any]]:
    """Check the outputs of each form against those of the dense weights, and time it; torch keeps to one thread then.

    Args:
        model: In its own code.
        inputs: Samples, at least as many as the largest batch.
        folder: With `PROGRAM`; the original's ONNX file is put there.
        made: The folder of the job's artifacts.

    Returns:
        A row a batch size and form.

    Raises:
        SystemExit: A form answers otherwise than the dense weights.
    """
    torch.set_num_threads(1)
    original = model.original()
    save_onnx(original, inputs[:2].to(model.dtype), folder / ONNX)
    module = as_forward(original, model.dtype)
    originals = {
        "adtn": module,
        "dense": module,
        "onnx": onnx_forward(folder / ONNX, model.dtype),
        "pt2": as_forward(program(folder / PROGRAM), model.dtype),
    }
    sizes = {"adtn": model.shipped(), "dense": model.shipped(), "onnx": folder / ONNX, "pt2": folder / PROGRAM}
    compressed = opened(model, made)
    rows = []
    for count in BATCHES:
        batch = inputs[:count]
        for form in originals:
            check(form, compressed[form](batch), compressed["dense"](batch))
        calls = {form: Pair(partial(originals[form], batch), partial(compressed[form], batch)) for form in originals}
        for form, times in timed(calls).items():
            size = {"original": sizes[form].stat().st_size, "compressed": (made / FILES[form]).stat().st_size}
            rows.append({"batch": count, "form": form, "bytes": size, **times})
    return rows


def save_onnx(model: nn.Module, inputs: Tensor, path: Path) -> None:
    """The original as torch writes it, for batches of any size."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch, about calls that it makes itself
        exported = torch.onnx.export(
            model, (inputs,), dynamo=True, dynamic_shapes=({0: torch.export.Dim("batch")},), verbose=False
        )
    assert exported is not None
    exported.save(path)
