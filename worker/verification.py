"""The fresh process of stage `verify`: opens artifacts from their bytes and evaluates them.

The dense artifact is opened while `adtn` cannot be imported, as on the machine of a user who never heard of it.
"""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

import torch
from safetensors.torch import load_file
from torch import Tensor

from worker import datasets
from worker.blueprint import Blueprint
from worker.evaluation import top1


@dataclass(frozen=True)
class Question:
    """What the fresh process is asked: which files, and on what to evaluate them.

    Attributes:
        artifacts: The path of each artifact, by kind ("adtn", "dense").
        architecture: The name to build them with, or None.
        dataset: A name or the path of a checked data set, or None.
        normalize: Mean and standard deviation of the inputs, or None.
        device: "cpu" or "cuda".
        resize: Height and width that images are stretched to, or None.
        key_prefix: What stands before every key of the artifacts and is no part of the architecture's keys.
        graph_file: The checked checkpoint whose graph builds them, or None. Without a name too, nothing is evaluated.
    """

    artifacts: dict[str, str]
    architecture: str | None
    dataset: str | None
    normalize: dict[str, list[float]] | None
    device: str
    resize: list[int] | None = None
    key_prefix: str = ""
    graph_file: str | None = None

    def to_json(self) -> str:
        """As one line."""
        return json.dumps(asdict(self))


class Refuse(MetaPathFinder):
    """An import hook that makes one package absent."""

    def __init__(self, package: str) -> None:
        self.package = package

    def find_spec(self, name: str, path: object, target: ModuleType | None = None) -> ModuleSpec | None:
        """Refuse the package and everything in it."""
        if name == self.package or name.startswith(f"{self.package}."):
            raise ImportError(f"{name} is not installed here")
        return None


@contextmanager
def absent(package: str) -> Iterator[None]:
    """Run a block in which `package` cannot be imported, and prove that it has not been so far.

    Raises:
        RuntimeError: It is imported already.
    """
    if package in sys.modules:
        raise RuntimeError(f"{package} is already imported")
    hook = Refuse(package)
    sys.meta_path.insert(0, hook)
    try:
        yield
    finally:
        sys.meta_path.remove(hook)


def accuracy(question: Question, state: dict[str, Tensor]) -> float | None:
    """The test accuracy of a dense state dict, where the question names a model and data."""
    blueprint = Blueprint(question.architecture, question.graph_file)
    if not blueprint.is_known or question.dataset is None:
        return None
    state = {key.removeprefix(question.key_prefix): tensor for key, tensor in state.items()}
    dataset = datasets.load(question.dataset, question.normalize, question.resize)
    built = blueprint.build(state, tuple(dataset.test_x.shape[1:]))
    dataset = datasets.fitted(dataset, built)
    return top1(built.model.to(question.device), dataset.test_x, dataset.test_y)


def answer(question: Question) -> dict[str, float | None]:
    """Open each artifact and return its accuracy by kind.

    Raises:
        RuntimeError: The artifacts hold different weights.
    """
    torch.use_deterministic_algorithms(True)
    states: dict[str, dict[str, Tensor]] = {}
    found: dict[str, float | None] = {}
    if "dense" in question.artifacts:
        with absent("adtn"):
            states["dense"] = load_file(question.artifacts["dense"])
            found["dense"] = accuracy(question, states["dense"])
    if "adtn" in question.artifacts:
        from adtn.files import decode  # only now: the dense artifact has to open without it

        states["adtn"] = decode(Path(question.artifacts["adtn"]))
        found["adtn"] = accuracy(question, states["adtn"])
    if len(states) == 2:
        require_same(states["dense"], states["adtn"])
    return found


def require_same(dense: dict[str, Tensor], decoded: dict[str, Tensor]) -> None:
    """Refuse two state dicts that differ in any key, dtype or bit."""
    if dense.keys() != decoded.keys():
        raise RuntimeError(f"only one of the artifacts holds {sorted(dense.keys() ^ decoded.keys())}")
    for key, tensor in dense.items():
        if tensor.dtype != decoded[key].dtype or not torch.equal(tensor, decoded[key]):
            raise RuntimeError(f"the artifacts differ in {key!r}")


if __name__ == "__main__":
    sys.stdout.write(json.dumps(answer(Question(**json.loads(sys.argv[1])))))
