"""Workers without a library, or with one that does not fit: that is said, and none is loaded before it is named."""

import subprocess
import sys

import pytest
import torch

from jobs.problems import ProblemError
from worker import libraries

BROKEN = """
import sys
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec

class Broken(MetaPathFinder, Loader):
    def find_spec(self, name, path, target=None):
        return ModuleSpec(name, self) if name == "torchvision" else None
    def exec_module(self, module):
        raise RuntimeError("operator torchvision::nms does not exist\\nand more")

sys.meta_path.insert(0, Broken())
"""
BUILD = """
import torch
from jobs.problems import ProblemError
from worker import libraries
try:
    libraries.build("{name}", {{"weight": torch.zeros(2)}}, None)
except ProblemError as problem:
    print(problem.code, problem.detail)
"""


def printed(code: str) -> str:
    """What a fresh interpreter prints."""
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, timeout=150)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("library", ["torchvision", "timm", "transformers"])
def test_a_missing_library_is_told_with_the_extra_that_has_it(library: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, library, None)  # as the import system notes an absent module
    with pytest.raises(ProblemError) as caught:
        libraries.build(f"{library}/resnet18", {"weight": torch.zeros(2)}, None)
    assert caught.value.code == "architecture_unavailable"
    assert f"pip install 'adtn[{library}]'" in caught.value.detail


def test_a_library_that_does_not_fit_is_told_with_the_reason() -> None:
    says = printed(BROKEN + BUILD.format(name="torchvision/resnet18"))
    assert says.startswith(
        "architecture_unavailable torchvision 0.28.0 is installed on the worker, but cannot be imported"
    )
    assert says.endswith("RuntimeError: operator torchvision::nms does not exist\n")


def test_transformers_does_without_a_torchvision_that_does_not_fit() -> None:
    says = printed(BROKEN + BUILD.format(name="transformers/DistilBertForSequenceClassification"))
    assert says.startswith("checkpoint_mismatch")


def test_a_worker_loads_no_library_until_a_job_names_one() -> None:
    imports = "import sys, worker.run_attempt, worker.verification; "
    assert printed(imports + "print({'torchvision', 'timm', 'transformers'} & set(sys.modules))") == "set()\n"
