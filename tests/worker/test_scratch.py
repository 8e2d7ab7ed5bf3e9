"""What tasks leave on the disk."""

import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from worker.scratch import scratch_folder, sweep


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_whatever_is_written_lies_in_the_folder_and_goes_with_it(temporary: Path) -> None:
    with scratch_folder() as folder:
        assert folder.parent == temporary
        assert Path(tempfile.mkdtemp()).parent == folder
        (folder / "checkpoint").write_bytes(b"...")
    assert list(temporary.iterdir()) == []
    assert tempfile.gettempdir() == str(temporary)


def test_the_folder_of_a_killed_process_is_removed_and_that_of_a_running_one_is_not(temporary: Path) -> None:
    code = (
        "import sys, tempfile; tempfile.tempdir = sys.argv[1]\n"
        "from worker.scratch import scratch_folder\n"
        "with scratch_folder() as folder:\n"
        "    (folder / 'activations').write_bytes(b'...'); print(folder, flush=True); sys.stdin.read()\n"
    )
    command = [sys.executable, "-c", code, str(temporary)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        folder = Path(process.stdout.readline().strip())
        sweep()
        assert (folder / "activations").exists()
        process.kill()
        process.wait()
        sweep()
        assert list(temporary.iterdir()) == []
