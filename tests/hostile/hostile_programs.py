"""Exported programs that were tampered with: an ordinary one, changed in one place."""

import io
import json
import zipfile
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import torch
from support.exported import exported
from torch import nn

from worker.sandbox.checkpoint import read_checkpoint
from worker.sandbox.limits import Limits

MODEL = "models/model.json"
WEIGHTS = "data/weights/model_weights_config.json"
SAMPLES = "data/sample_inputs/model.pt"
EVAL = "lambdify([], {code!r})()"
"""An expression of sizes that runs code where it is taken for Python: a function of sympy compiles its argument."""


@cache
def ordinary() -> bytes:
    """A perceptron: linear, relu, linear; 8 numbers in, 4 out, a batch of any size."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4)).eval()
    return exported(model, torch.rand(3, 8))


def with_members(members: Mapping[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    """The ordinary program with members in the place of its own, or besides."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(ordinary())) as old, zipfile.ZipFile(buffer, "w", compression) as new:
        root = old.namelist()[0].partition("/")[0]
        own = {name.removeprefix(f"{root}/"): old.read(name) for name in old.namelist()}
        for name, content in (own | members).items():
            new.writestr(f"{root}/{name}", content)
    return buffer.getvalue()


def member(name: str) -> bytes:
    with zipfile.ZipFile(io.BytesIO(ordinary())) as archive:
        root = archive.namelist()[0].partition("/")[0]
        return archive.read(f"{root}/{name}")


def changed(change: Callable[[Any], None], name: str = MODEL) -> bytes:
    """The ordinary program with its JSON changed."""
    document = json.loads(member(name))
    change(document)
    return with_members({name: json.dumps(document).encode()})


def graph_of(document: Any) -> Any:
    return document["graph_module"]["graph"]


def read(data: bytes) -> bytes:
    """What the reader of the child writes for a file, read in this process."""
    output = io.BytesIO()
    read_checkpoint(io.BytesIO(data), "model.pt2", output, Limits().budget("checkpoint", len(data)))
    return output.getvalue()
