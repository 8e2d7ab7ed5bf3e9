"""The module that runs a graph, one operator after the other."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import reduce
from typing import Any

import torch
from torch import Tensor, nn

from worker.graphs.schema import InTraining, Reference, Size


@dataclass(frozen=True)
class OfModel:
    """The parameter, buffer or constant under a key, read when it is needed: it may be decoded there."""

    key: str


@dataclass(frozen=True)
class OfInput:
    """The device on which the input is."""


@dataclass(frozen=True)
class Step:
    """A call.

    Attributes:
        call: A function, or the name of a module of the model.
        positional: Arguments; `Reference`, `OfModel`, `OfInput` and `InTraining` stand for what they say.
        keywords: Arguments by name, likewise.
        results: The name of what is returned, or names of its items.
        last_uses: Values that nothing after this step reads.
    """

    call: Callable[..., object] | str
    positional: tuple[object, ...]
    keywords: Mapping[str, object]
    results: str | tuple[str, ...]
    last_uses: tuple[str, ...]


@dataclass(frozen=True)
class Program:
    """What a `GraphModel` runs: its steps between the names of the input and of the output.

    Attributes:
        batch: How many samples the steps can take at a time.
        dtype: In which they take them.
        in_place: Whether a step changes a value, which may be the input.
    """

    input: str
    steps: tuple[Step, ...]
    output: str
    batch: Size
    dtype: torch.dtype
    in_place: bool


class GraphModel(nn.Module):
    """A model that runs the operators of a graph: inputs (batch, ...) to outputs (batch, ...).

    Its parameters and buffers have the keys of the model that the graph was taken from. A layer whose weights no other
    operator reads is a module of torch (see `worker.graphs.modules`), so that hooks, modes and freezing find it.

    A graph may be for batches of some sizes only. Then larger batches are cut, and smaller ones are filled up by
    repeating their samples; the outputs for those are dropped. In training mode the statistics of a batch that was
    filled up count some samples more than once.
    """

    def __init__(self, program: Program) -> None:
        super().__init__()
        self.program = program

    def forward(self, inputs: Tensor) -> Tensor:
        """Outputs for a batch of any size, converted to the dtype that the graph takes."""
        inputs = inputs.to(self.program.dtype)
        if self.program.in_place:
            inputs = inputs.clone()  # the caller's stay as they are
        batch = self.program.batch
        if batch.is_any:
            return self.run(inputs)
        parts = [self.run(_filled(part, batch.least))[: len(part)] for part in _cut(inputs, batch)]
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def run(self, inputs: Tensor, on_result: Callable[[object], None] | None = None) -> Tensor:
        """Outputs for a batch as the graph takes it.

        Args:
            inputs: Of a size that it takes, and in its dtype; steps in place change them.
            on_result: Called with what each operator returns.
        """
        values: dict[str, object] = {self.program.input: inputs}
        for position, step in enumerate(self.program.steps):
            call = attribute(self, step.call) if isinstance(step.call, str) else step.call
            try:
                result = call(  # type: ignore[operator]
                    *(self._found(argument, values, inputs) for argument in step.positional),
                    **{name: self._found(argument, values, inputs) for name, argument in step.keywords.items()},
                )
            except Exception as error:
                error.add_note(f"operator {position} ({step.call})")
                raise
            if on_result is not None:
                on_result(result)
            values.update(_named(result, step.results))
            for name in step.last_uses:
                del values[name]
        output: Any = values[self.program.output]
        return output  # type: ignore[no-any-return]

    def _found(self, argument: object, values: Mapping[str, object], inputs: Tensor) -> object:
        """What an argument of a step stands for."""
        match argument:
            case Reference():
                return values[argument.value]
            case OfModel():
                return attribute(self, argument.key)
            case InTraining():
                return argument.in_training if self.training else type(argument.in_training)(0)
            case OfInput():
                return inputs.device
            case tuple():
                return [self._found(item, values, inputs) for item in argument]
            case _:
                return argument


def attribute(model: nn.Module, name: str) -> object:
    """The parameter, buffer or module of a model under a dotted name."""
    return reduce(getattr, name.split("."), model)


def _named(result: Any, names: str | tuple[str, ...]) -> dict[str, object]:
    """What a step returned, or its items, by name."""
    return {names: result} if isinstance(names, str) else {name: result[place] for place, name in enumerate(names)}


def _cut(inputs: Tensor, batch: Size) -> tuple[Tensor, ...]:
    return (inputs,) if batch.most is None else torch.split(inputs, batch.most)


def _filled(part: Tensor, least: int) -> Tensor:
    """The samples, and as many of them once more as are missing."""
    missing = least - len(part)
    if missing <= 0:
        return part
    return part[torch.arange(least, device=part.device) % len(part)]
