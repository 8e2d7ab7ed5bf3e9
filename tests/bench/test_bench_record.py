"""Where results say that they come from."""

import subprocess
from pathlib import Path

import pytest

from bench.record import commit, described


def git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], capture_output=True, text=True, check=True).stdout


def test_a_tree_is_changed_by_code_and_not_by_results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    git("init", "--quiet")
    for name in ("bench/results/a.json", "docs/a.md", "README.md", "bench/a.py"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("before")
    git("add", ".")
    git("-c", "user.name=a", "-c", "user.email=a@b", "commit", "--quiet", "-m", "before")
    head = git("rev-parse", "HEAD")[:12]
    for name in ("bench/results/a.json", "docs/a.md", "README.md"):
        (tmp_path / name).write_text("after")
    assert commit() == head
    (tmp_path / "bench/new.py").write_text("not yet in any commit")
    assert commit() == f"{head}-dirty"
    (tmp_path / "bench/new.py").unlink()
    (tmp_path / "bench/a.py").write_text("after")
    assert commit() == f"{head}-dirty"
    monkeypatch.chdir(tmp_path / "docs")
    assert commit() == f"{head}-dirty"


def test_a_machine_is_described_with_its_gpu() -> None:
    machine = {"cores": 2, "processor": "a processor", "gpu": None}
    assert described(machine) == "2 cores of a processor"
    assert described({**machine, "gpu": "a card"}) == "2 cores of a processor with a card"
