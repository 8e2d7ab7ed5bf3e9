"""The files of a job, each loaded as docs/exports.md tells users to load it, into the code of the model's authors."""

import runpy
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

import adtn
from bench.published.model import Published
from bench.timing import onnx_session

ADTN_FILE, LOADER_FILE = "model.adtn.safetensors", "adtn_loader.py"
FILES = {
    "adtn": ADTN_FILE,
    "loader": ADTN_FILE,
    "dense": "model.dense.safetensors",
    "dense_pt": "model.dense.pt",
    "onnx": "model.onnx",
    "pt2": "model.pt2",
}
"""Of each form the file that holds the numbers; the loader reads the same as the library does."""

Forward = Callable[[Tensor], Tensor]
"""From samples of the data set, float32, to outputs."""


def opened(model: Published, folder: Path) -> dict[str, Forward]:
    """Every form whose file is in a folder."""
    return {form: _OPEN[form](model, folder) for form, name in FILES.items() if (folder / name).exists()}


def as_forward(module: nn.Module, dtype: torch.dtype) -> Forward:
    """A module, for samples of the data set."""
    return lambda inputs: module(inputs.to(dtype))


def onnx_forward(path: Path, dtype: torch.dtype = torch.float32) -> Forward:
    """An ONNX file with one input and one output, on one thread."""
    session = onnx_session(path)
    (given,), (made,) = session.get_inputs(), session.get_outputs()
    return lambda inputs: torch.from_numpy(session.run([made.name], {given.name: inputs.to(dtype).numpy()})[0])


def program(path: Path) -> nn.Module:
    """A program of torch."""
    module: nn.Module = torch.export.load(path).module()
    return module


def _filled(model: Published, state: Mapping[str, Tensor]) -> Forward:
    module = model.empty()
    module.load_state_dict(state)
    return as_forward(module, model.dtype)


_OPEN: dict[str, Callable[[Published, Path], Forward]] = {
    "adtn": lambda model, folder: as_forward(
        adtn.load(folder / ADTN_FILE, model.empty(), decode="once").eval(), model.dtype
    ),
    "loader": lambda model, folder: _filled(
        model, runpy.run_path(str(folder / LOADER_FILE))["decode"](folder / ADTN_FILE)
    ),
    "dense": lambda model, folder: _filled(model, load_file(folder / FILES["dense"])),
    "dense_pt": lambda model, folder: _filled(model, torch.load(folder / FILES["dense_pt"], weights_only=True)),
    "onnx": lambda _, folder: onnx_forward(folder / FILES["onnx"]),
    "pt2": lambda _, folder: program(folder / FILES["pt2"]),
}
