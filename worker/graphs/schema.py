"""A model's graph as plain data, checked whenever it is read. No torch.

A graph is a list of operators in the order in which they run. Each reads values by name: the input, tensors that the
model holds, and results of operators before it. So there is nothing to loop over, and nothing that could run code.
"""

import math
from collections.abc import Iterator
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from worker.graphs.operators import OPERATORS
from worker.sandbox.tensor_file import MAX_DIMS, NAME

MAX_OPERATORS = 10_000
MAX_ITEMS = 10_000
"""Of a list of an operator, and names of values in all."""

DType = Literal[
    "bool", "uint8", "int8", "int16", "int32", "int64", "float16", "bfloat16", "float32", "float64"
]  # fmt: skip
MemoryFormat = Literal["contiguous_format", "preserve_format", "channels_last", "channels_last_3d"]


def _not_nan(number: float) -> float:
    if math.isnan(number):
        raise ValueError("expected a number, got NaN")
    return number


def _known(operator: str) -> str:
    if operator not in OPERATORS:
        raise ValueError(f"expected a known operator, got {operator[:100]!r}")
    return operator


ValueName = Annotated[str, Field(pattern="^[A-Za-z_][A-Za-z0-9_]*$", max_length=256)]
Key = Annotated[str, Field(pattern=f"^(?:{NAME.pattern})$", max_length=512)]
Integer = Annotated[int, Field(ge=-(2**63), lt=2**63)]
Number = Annotated[float, AfterValidator(_not_nan)]
Text = Annotated[str, Field(max_length=100)]
Operator = Annotated[str, AfterValidator(_known)]
Count = Annotated[int, Field(ge=1, lt=2**40)]


class Strict(BaseModel):
    """Base: no unknown fields, no conversions."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, ser_json_inf_nan="constants")


class Reference(Strict):
    """The value of that name."""

    value: ValueName


class OfType(Strict):
    """A dtype."""

    dtype: DType


class InFormat(Strict):
    """A memory format."""

    memory_format: MemoryFormat


class InTraining(Strict):
    """A flag or a number while the model is in training mode; false or 0 while it is in evaluation mode."""

    in_training: bool | Number


Item = bool | Integer | Number | Reference | None
Value = Item | Text | OfType | InFormat | InTraining | Annotated[tuple[Item, ...], Field(max_length=MAX_ITEMS)]


class Size(Strict):
    """Between which sizes a dimension may lie, and one that it has had; there is no most if that is None."""

    least: Count
    most: Count | None
    example: Count

    @model_validator(mode="after")
    def _within(self) -> Self:
        if not self.holds(self.example):
            raise ValueError(f"expected {self} as the size of a dimension, got {self.example}")
        return self

    @property
    def is_any(self) -> bool:
        """Whether every size is within."""
        return self.least == 1 and self.most is None

    def holds(self, size: int) -> bool:
        """Whether a size is within."""
        return size >= self.least and (self.most is None or size <= self.most)

    def __str__(self) -> str:
        if self.most == self.least:
            return str(self.least)
        return f"{self.least} or more" if self.most is None else f"{self.least} to {self.most}"


class Input(Strict):
    """What the model takes: (batch, ...)."""

    name: ValueName
    dtype: DType
    sizes: Annotated[tuple[Size, ...], Field(min_length=1, max_length=MAX_DIMS)]

    @property
    def batch(self) -> Size:
        """How many samples at a time."""
        return self.sizes[0]

    @property
    def sample(self) -> tuple[Size, ...]:
        """The sizes of one."""
        return self.sizes[1:]


class Held(Strict):
    """A tensor of the model: its value's name, and its key among the tensors of the file.

    Parameters and buffers are the model's state; constants belong to the graph, and are in no state_dict.
    """

    name: ValueName
    key: Key
    kind: Literal["parameter", "buffer", "constant"]


class Node(Strict):
    """One operator: its arguments by the names of its schema, and the names of what it returns.

    Several names stand for the items of a returned tuple or list.
    """

    operator: Operator
    arguments: Annotated[dict[ValueName, Value], Field(max_length=50)]
    results: ValueName | Annotated[tuple[ValueName, ...], Field(min_length=1, max_length=MAX_ITEMS)]

    @property
    def names(self) -> tuple[str, ...]:
        """Of the results."""
        return (self.results,) if isinstance(self.results, str) else self.results

    def references(self) -> Iterator[str]:
        """Names of the values that it reads."""
        for value in self.arguments.values():
            for item in value if isinstance(value, tuple) else (value,):
                if isinstance(item, Reference):
                    yield item.value


class Graph(Strict):
    """A model of one input and one output, both of them a tensor with a row a sample."""

    version: Literal[1] = 1
    input: Input
    held: Annotated[tuple[Held, ...], Field(max_length=MAX_ITEMS)]
    nodes: Annotated[tuple[Node, ...], Field(min_length=1, max_length=MAX_OPERATORS)]
    output: ValueName

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        """Refuse names that are given twice, and values that are read before there are any."""
        known: set[str] = set()
        keys = [held.key for held in self.held]
        if len(set(keys)) < len(keys):
            raise ValueError("expected each key once among the tensors that the graph holds")
        self._add(known, self.input.name)
        for held in self.held:
            self._add(known, held.name)
        for position, node in enumerate(self.nodes):
            for name in node.references():
                if name not in known:
                    where = f"operator {position} ({node.operator})"
                    raise ValueError(f"{where}: expected a value from before it, got {name[:100]!r}")
            for name in node.names:
                self._add(known, name)
        if self.output not in known:
            raise ValueError(f"expected a value of the graph as output, got {self.output[:100]!r}")
        return self

    @staticmethod
    def _add(known: set[str], name: str) -> None:
        if name in known:
            raise ValueError(f"expected each name once, got {name[:100]!r} again")
        known.add(name)

    def keys(self, kind: Literal["parameter", "buffer", "constant"]) -> frozenset[str]:
        """Keys of the tensors of one kind."""
        return frozenset(held.key for held in self.held if held.kind == kind)
