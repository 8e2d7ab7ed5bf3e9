"""What the server knows by name, on the wire."""

from typing import Literal

from pydantic import BaseModel


class ArchitectureView(BaseModel):
    """An architecture that a checkpoint can be loaded into."""

    name: str
    object: Literal["architecture"] = "architecture"
    description: str
    layers: list[str]
    keys: list[str]
    input: str


class DatasetView(BaseModel):
    """A data set that the worker has at hand."""

    name: str
    object: Literal["dataset"] = "dataset"
    description: str
    shape: list[int]
    classes: int
    train: int
    test: int
