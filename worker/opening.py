"""Artifacts as a user opens them: the weights that a file holds, or the program that it is.

Nothing here imports `adtn` but what opens the compressed checkpoint with it.
"""

import runpy
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

Forward = Callable[[Tensor], Tensor]
"""From a batch of samples to a batch of outputs."""

State = dict[str, Tensor]


def _dense_pt(artifacts: Mapping[str, str]) -> State:
    state: State = torch.load(artifacts["dense_pt"], weights_only=True)
    return state


def _by_loader(artifacts: Mapping[str, str]) -> State:
    """The compressed checkpoint, by the loader that is given away beside it."""
    state: State = runpy.run_path(artifacts["loader"])["decode"](artifacts["adtn"])
    return state


def _by_library(artifacts: Mapping[str, str]) -> State:
    """The compressed checkpoint, by the library: imported only now, as the other artifacts have to open without it."""
    from adtn.files import decode

    return decode(Path(artifacts["adtn"]))


def _onnx(artifacts: Mapping[str, str]) -> Forward:
    import onnxruntime  # of an extra

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors
    session = onnxruntime.InferenceSession(artifacts["onnx"], options, providers=["CPUExecutionProvider"])

    def forward(batch: Tensor) -> Tensor:
        (outputs,) = session.run(["output"], {"input": batch.numpy()})
        return torch.from_numpy(outputs)

    return forward


def _pt2(artifacts: Mapping[str, str]) -> Forward:
    program: Forward = torch.export.load(artifacts["pt2"]).module()
    return program


# Each takes the path of every artifact, by kind.
WEIGHTS: dict[str, Callable[[Mapping[str, str]], State]] = {
    "dense": lambda artifacts: load_file(artifacts["dense"]),
    "dense_pt": _dense_pt,
    "loader": _by_loader,
    "adtn": _by_library,
}
PROGRAMS: dict[str, Callable[[Mapping[str, str]], Forward]] = {"onnx": _onnx, "pt2": _pt2}
