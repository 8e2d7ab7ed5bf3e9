"""The fresh process of stage `verify`: opens artifacts from their bytes and evaluates them.

All that a user opens without `adtn` is opened while that cannot be imported.
"""

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

import torch

from worker.device import compute_reproducibly
from worker.examination import Examination, Found, Question


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


def answer(question: Question) -> dict[str, Found]:
    """Open each artifact and evaluate it; by kind.

    Raises:
        RuntimeError: An artifact cannot be opened, or holds other weights than the others. It says which.
    """
    compute_reproducibly(torch.device(question.device))
    examination = Examination(question)
    with absent("adtn"):
        for kind in question.artifacts:
            if kind != "adtn":
                examination.open(kind)
    if "adtn" in question.artifacts:
        examination.open("adtn")
    return examination.found


if __name__ == "__main__":
    answers = {kind: asdict(found) for kind, found in answer(Question(**json.loads(sys.argv[1]))).items()}
    sys.stdout.write(json.dumps(answers))
    sys.stdout.flush()
    os._exit(0)  # to take torch down in order takes half a second
