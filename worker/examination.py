"""What written artifacts turn out to be: each is opened, evaluated on the same samples, and compared with another."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from worker import datasets
from worker.blueprint import Blueprint
from worker.evaluation import top1_of
from worker.opening import PROGRAMS, WEIGHTS, Forward, State

CLOSE = 1e-3
"""Relative difference of weights that the standalone loader and the library decode: they add up in another order."""


@dataclass(frozen=True)
class Question:
    """What the fresh process is asked: which files, and on what to evaluate them.

    Attributes:
        artifacts: The path of each artifact, by kind ("adtn", "dense", ...): see `worker.opening`.
        architecture: The name to build them with, or None.
        dataset: The path of a checked data set, or None.
        normalize: Mean and standard deviation of the inputs, or None.
        device: "cpu" or the type of an accelerator, such as "cuda".
        resize: Height and width that images are stretched to, or None.
        key_prefix: What stands before every key of the artifacts and is no part of the architecture's keys.
        graph_file: The checked checkpoint whose graph builds them, or None. Without a name too, nothing is evaluated.
        input_shape: Of one sample as the network takes it, or None where there is no network.
        config: Of an architecture that is built by one, or None.
        at_once: How many samples an artifact is given at a time.
        reference: A safetensors file of `inputs` and the `outputs` that the job's model has for them, or None. It is
            there where a network has no data set.
    """

    artifacts: dict[str, str]
    architecture: str | None
    dataset: str | None
    normalize: dict[str, list[float]] | None
    device: str
    resize: list[int] | None = None
    key_prefix: str = ""
    graph_file: str | None = None
    input_shape: list[int] | None = None
    config: Mapping[str, Any] | None = None
    at_once: int = 1
    reference: str | None = None

    def to_json(self) -> str:
        """As one line."""
        return json.dumps(asdict(self))


@dataclass(frozen=True)
class Found:
    """What an artifact turned out to do.

    Attributes:
        accuracy: On the test split, or None without one.
        difference: Of its outputs from those of the job's model, relative to the largest; None without a reference.
    """

    accuracy: float | None = None
    difference: float | None = None


class Examination:
    """Opens artifacts and remembers what it found.

    Args:
        question: Which artifacts, and on what to evaluate them.

    Attributes:
        found: By kind of artifact.
    """

    def __init__(self, question: Question) -> None:
        self.found: dict[str, Found] = {}
        self._question = question
        self._blueprint = Blueprint(question.architecture, question.graph_file, question.config)
        self._first: tuple[str, State] | None = None
        self._data: tuple[Tensor, Tensor] | None = None
        self._reference: dict[str, Tensor] | None = None
        if question.input_shape is not None and question.dataset is not None:
            dataset = datasets.load(question.dataset, question.normalize, question.resize)
            self._data = dataset.test_x.reshape(-1, *question.input_shape), dataset.test_y
        if question.reference is not None:
            self._reference = load_file(question.reference)

    def open(self, kind: str) -> None:
        """Open an artifact, evaluate it, and compare its weights with those of the first.

        Raises:
            RuntimeError: It cannot be opened or run, or holds other weights than the first.
        """
        try:
            if kind in PROGRAMS:
                self.found[kind] = self._of_program(PROGRAMS[kind](self._question.artifacts))
                return
            state = WEIGHTS[kind](self._question.artifacts)
            self.found[kind] = self._of_weights(state)
        except Exception as error:  # what is wrong with a file may show in any way
            raise RuntimeError(f"the artifact {kind}: {type(error).__name__}: {error}") from error
        if self._first is None:
            self._first = kind, state
            return
        other, expected = self._first
        require_same(state, expected, f"{kind} and {other}", CLOSE if "loader" in (kind, other) else 0.0)

    def _of_weights(self, state: State) -> Found:
        """What a network with these weights does; nothing where there is no network."""
        shape, prefix, device = self._question.input_shape, self._question.key_prefix, self._question.device
        if shape is None:
            return Found()
        state = {key.removeprefix(prefix): tensor for key, tensor in state.items()}
        model = self._blueprint.build(state, tuple(shape)).model.eval().to(device)
        return self._of_program(lambda batch: model(batch.to(device)))

    @torch.no_grad()
    def _of_program(self, forward: Forward) -> Found:
        """What a program does."""
        if self._data is not None:
            return Found(accuracy=top1_of(forward, *self._data, self._question.at_once))
        if self._reference is not None:
            outputs, expected = forward(self._reference["inputs"]).cpu(), self._reference["outputs"]
            return Found(difference=relative_difference(outputs, expected))
        return Found()


def require_same(state: State, expected: State, names: str, tolerance: float) -> None:
    """Refuse two state dicts that differ in a key, shape or dtype, or by more than a tolerance in a tensor.

    Args:
        state: Of one artifact.
        expected: Of the other.
        names: Of both, for messages.
        tolerance: Relative to the largest entry; with 0 every bit has to agree, otherwise an entry may also be rounded
            to the next number of the tensor's dtype.

    Raises:
        RuntimeError: They differ.
    """
    if state.keys() != expected.keys():
        raise RuntimeError(f"the artifacts {names}: only one holds {sorted(state.keys() ^ expected.keys())}")
    for key, tensor in expected.items():
        other = state[key]
        alike = other.dtype == tensor.dtype and other.shape == tensor.shape
        rounding = torch.finfo(tensor.dtype).eps if tolerance and tensor.is_floating_point() else 0.0
        close = max(tolerance, rounding)
        if not alike or not (torch.equal(other, tensor) or relative_difference(other, tensor) <= close):
            raise RuntimeError(f"the artifacts {names} differ in {key!r}")


def relative_difference(found: Tensor, expected: Tensor) -> float:
    """The largest difference of two entries, relative to the largest entry."""
    difference = (found.double() - expected.double()).abs().max()
    return float(difference / expected.double().abs().max()) if difference else 0.0
