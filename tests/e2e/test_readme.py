"""README's lines of curl and its Python example do what it says."""

import copy
import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
import torch
from safetensors.torch import load_file
from support.digits import DigitsLeNet, accuracy
from support.stack import Stack

from worker.datasets import Dataset

pytestmark = pytest.mark.e2e

README = (Path(__file__).parents[2] / "README.md").read_text()


def block(holds: str) -> str:
    """The block of code that has a word."""
    (found,) = [text for text in re.findall(r"```\w*\n(.*?)```", README, re.DOTALL) if holds in text]
    return found


@pytest.fixture
def typed(stack: Stack, checkpoint: Path, tmp_path: Path) -> Callable[..., str]:
    """Runs a line in a folder that holds the checkpoint; its output."""
    shutil.copy(checkpoint, tmp_path / "lenet.safetensors")

    def run(line: str, **environment: str) -> str:
        command = ["sh", "-ec", line.replace("localhost:8000", stack.url)]
        done = subprocess.run(
            command, cwd=tmp_path, env=os.environ | environment, capture_output=True, text=True, timeout=120
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


def test_three_lines_do_the_whole_job(
    typed: Callable[..., str], api: httpx.Client, digits: Dataset, tmp_path: Path
) -> None:
    create, watch, download = block("curl -F").strip().splitlines()
    job = json.loads(typed(create))["id"]
    assert "event: job.succeeded" in typed(watch, JOB=job)
    typed(download, JOB=job)
    model = DigitsLeNet()
    model.load_state_dict(load_file(tmp_path / "model.dense.safetensors"))
    reported = api.get(f"/v1/jobs/{job}/report").json()["accuracy"]["final"]
    assert accuracy(model.eval(), digits.test_x, digits.test_y) == reported


def test_the_python_example_runs(
    trained: DigitsLeNet, digits: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    original = copy.deepcopy(trained)
    names = {
        "model": copy.deepcopy(trained),
        "train_x": digits.train_x[:200],
        "train_y": digits.train_y[:200],
    }
    exec(block("adtn.compress("), names)  # the block is ours
    state = names["state"]
    assert isinstance(state, dict)
    assert {key: tensor.shape for key, tensor in state.items()} == {
        key: tensor.shape for key, tensor in original.state_dict().items()
    }
    model = DigitsLeNet()
    model.load_state_dict(state)
    torch.testing.assert_close(model(digits.test_x), names["model"].eval()(digits.test_x))


def test_the_example_of_the_client_runs(
    stack: Stack, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copy(checkpoint, tmp_path / "lenet.safetensors")
    exec(block("client.files.upload(").replace("http://127.0.0.1:8000", stack.url), {})  # the block is ours
    DigitsLeNet().load_state_dict(load_file(tmp_path / "model.dense.safetensors"))
