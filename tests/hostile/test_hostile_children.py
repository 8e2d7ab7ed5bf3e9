"""What a child could do if a file took it over, and how one that dies, hangs or lies ends."""

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from hostile_files import Refuse, entry, good_dataset, npz_bytes, safetensors_bytes, torch_bytes

from jobs.problems import ProblemError
from worker.sandbox import Limits, read_upload
from worker.sandbox.landlock import restrict_reading
from worker.sandbox.process import ENVIRONMENT

PROBE = Path(__file__).with_name("probe.py")
Run = Callable[..., ProblemError]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Starts the probe in the place of the reader and returns the problem that comes of it."""
    out, source = tmp_path / "out", tmp_path / "source"
    out.mkdir()
    source.write_bytes(b"PK\x03\x04 anything")

    def start(limits: Limits | None = None, **task: Any) -> ProblemError:
        with pytest.raises(ProblemError) as caught:
            read_upload(source, "dataset", "x", out, limits or Limits(), child=[str(PROBE), json.dumps(task)])
        assert list(out.iterdir()) == []
        return caught.value

    return start


@pytest.fixture
def escape(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., dict[str, Any]]]:
    """Runs every way out with a listening server, a secret file and a secret in the environment waiting outside."""
    monkeypatch.setenv("ADTN_SECRET", "swordfish")
    secret, marker = tmp_path / "secret", tmp_path / "marker"
    secret.write_text("swordfish")
    with socket.create_server(("127.0.0.1", 0)) as server:

        def start(**task: Any) -> dict[str, Any]:
            problem = run(do="escape", port=server.getsockname()[1], secret=str(secret), marker=str(marker), **task)
            assert not marker.exists()
            assert secret.read_text() == "swordfish"
            found: dict[str, Any] = json.loads(problem.detail)
            return found

        yield start


def kernel_has_landlock() -> bool:
    """Asked in a process of its own: the answer restricts it."""
    pid = os.fork()
    if pid == 0:
        import ctypes

        ctypes.CDLL(None).prctl(38, 1, 0, 0, 0)
        os._exit(0 if restrict_reading([]) else 1)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_a_hijacked_child_finds_no_secret_and_no_way_out(escape: Callable[..., dict[str, Any]]):
    found = escape()
    assert found["environment"] == ENVIRONMENT
    refused = {name: error for name, error in found["escapes"].items() if not name.startswith("C ")}
    assert "done" not in refused.values(), refused


def test_the_network_is_another_one_where_the_kernel_allows_it(escape: Callable[..., dict[str, Any]]):
    before, cut, after = escape()["networks"]
    assert (before != after) == cut


def test_the_kernel_alone_refuses_network_files_and_signals(escape: Callable[..., dict[str, Any]]):
    if not kernel_has_landlock():
        pytest.skip("this kernel has no Landlock")
    found = escape(without_hook=True)["escapes"]
    ways = ("connect", "write", "read", "parent's environment", "remove", "exec", "C write", "C read", "C remove")
    assert {way: found[way] for way in ways if found[way] == "done"} == {}


def test_a_child_that_sleeps_is_killed_when_its_time_is_up(run: Run):
    problem = run(Limits(wall_s=1.0), do="sleep")
    assert problem.code == "resource_limit"
    assert "more than 1 s" in problem.detail


def test_a_child_that_spins_is_killed_by_its_processor_limit(run: Run):
    problem = run(Limits(cpu_s=0), do="spin")
    assert problem.code == "resource_limit"
    assert "processor time" in problem.detail


def test_a_child_that_the_kernel_kills_is_a_resource_limit(run: Run):
    assert run(do="die of memory").code == "resource_limit"


def test_a_child_that_crashes_refuses_the_file(run: Run):
    assert run(do="crash").code == "dataset_invalid"


def test_a_child_that_does_not_start_is_an_internal_error(run: Run, tmp_path: Path):
    assert run(do="leave a child", marker=str(tmp_path / "no" / "folder")).code == "internal_error"


def test_what_a_child_started_ends_with_it(run: Run, tmp_path: Path):
    run(do="leave a child", marker=str(tmp_path / "pid"))
    session = int((tmp_path / "pid").read_text())
    for _ in range(100):  # the kernel takes a moment to carry out a kill
        if not alive_in(session):
            break
        time.sleep(0.05)
    assert alive_in(session) == []


def alive_in(session: int) -> list[psutil.Process]:
    """The processes of a session, but for its leader and those that are dead and not yet collected."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.NoSuchProcess):
            ended = process.status() == psutil.STATUS_ZOMBIE
            if process.pid != session and not ended and session_of(process) == session:
                found.append(process)
    return found


def test_a_child_ends_with_its_parent(tmp_path: Path):
    source, out = tmp_path / "source", tmp_path / "out"
    source.write_bytes(b"PK\x03\x04 anything")
    out.mkdir()
    call = (
        "import sys; from pathlib import Path; from worker.sandbox import Limits, read_upload;"
        "read_upload(Path(sys.argv[1]), 'dataset', 'x', Path(sys.argv[2]), Limits(), child=sys.argv[3:])"
    )
    arguments = [str(source), str(out), str(PROBE), json.dumps({"do": "sleep"})]
    with subprocess.Popen([sys.executable, "-c", call, *arguments]) as parent:
        while not any(path.read_bytes() == b"asleep" for path in out.iterdir()):
            assert parent.poll() is None
            time.sleep(0.02)
        (child,) = psutil.Process(parent.pid).children()
        parent.kill()
    child.wait(timeout=30)


def session_of(process: psutil.Process) -> int | None:
    try:
        return os.getsid(process.pid)
    except ProcessLookupError:
        return None


NAMES = ("train_x", "train_y", "test_x", "test_y")
GOOD_FILE = safetensors_bytes({name: entry("U8", [1], i, i + 1) for i, name in enumerate(NAMES)}, bytes(4)).hex()
GOOD_ANSWER = {
    "format": "npz",
    "summary": {
        "splits": {"train": 1, "test": 1},
        "shape": [1],
        "classes": 1,
        "dtype": "uint8",
        "class_names": [],
        "notes": [],
    },
    "layers": [],
    "aliases": {},
}


@pytest.mark.parametrize(
    "change",
    [
        {"format": "<script>"},
        {"unknown": 1},
        {"aliases": {"a": "b"}},
        {"aliases": {"../../x": "train_x"}},
        {"layers": [{"name": "train_x"}]},
        {"summary": {"splits": {"train": -1}, "shape": [], "classes": 1, "dtype": "uint8"}},
        {"summary": "nothing"},
        {"summary": {"parameters": 1, "layers": 0, "key_prefix": "", "notes": []}},
    ],
)
def test_an_answer_that_is_not_exact_is_refused(run: Run, change: dict[str, Any]):
    reply = json.dumps({"answer": GOOD_ANSWER | change})
    assert run(do="answer", reply=reply, output=GOOD_FILE).code == "dataset_invalid"


def test_the_answer_that_the_others_are_changed_from_is_accepted(tmp_path: Path):
    out, source = tmp_path / "out", tmp_path / "source"
    out.mkdir()
    source.write_bytes(b"PK\x03\x04 anything")
    task = {"do": "answer", "reply": json.dumps({"answer": GOOD_ANSWER}), "output": GOOD_FILE}
    found = read_upload(source, "dataset", "x", out, Limits(), child=[str(PROBE), json.dumps(task)])
    assert found.summary == GOOD_ANSWER["summary"]


ONE_ARRAY = safetensors_bytes({"train_x": entry("U8", [1], 0, 1)}, bytes(1)).hex()


@pytest.mark.parametrize("output", ["", "00" * 100, GOOD_FILE + "00", ONE_ARRAY])
def test_tensors_that_are_no_safetensors_are_refused(run: Run, output: str):
    reply = json.dumps({"answer": GOOD_ANSWER})
    assert run(do="answer", reply=reply, output=output).code in ("dataset_invalid", "truncated_file")


@pytest.mark.parametrize(
    "reply", ["", "{}", "[]", '{"answer": null}', '{"refusal": {"code": "no_such", "detail": ""}}']
)
def test_a_reply_that_says_nothing_is_refused(run: Run, reply: str):
    assert run(do="answer", reply=reply, output=GOOD_FILE).code == "dataset_invalid"


def test_a_reply_without_end_is_refused(run: Run):
    assert run(do="answer", reply=" " * 2**16, times=2**10 + 1, output=GOOD_FILE).code == "dataset_invalid"


def test_control_characters_in_a_refusal_do_not_come_through(run: Run):
    refusal = {"code": "dataset_invalid", "detail": "\x1b[31mred\x07\nline", "errors": []}
    problem = run(do="answer", reply=json.dumps({"refusal": refusal}), output="")
    assert problem.detail == "?[31mred?\nline"


def test_a_checkpoint_that_needs_more_memory_than_allowed_is_refused(refuse: Refuse):
    data = torch_bytes({"w": torch.zeros(2**24)})
    problem = refuse(data, "checkpoint", "model.pt", Limits(memory_bytes=2**25, memory_per_byte=0))
    assert problem.code == "resource_limit"
    assert "memory" in problem.detail


def test_a_data_set_that_needs_more_memory_than_allowed_is_refused(refuse: Refuse):
    x = torch.zeros(64, 2**16).numpy().T  # the one order that has to be held as a whole
    y = torch.zeros(2**16, dtype=torch.int64).numpy()
    data = npz_bytes(train_x=x, train_y=y, test_x=x, test_y=y)
    assert refuse(data, "dataset", "d.npz", Limits(memory_bytes=2**23, memory_per_byte=0)).code == "resource_limit"


def test_a_full_disk_is_not_the_files_fault(tmp_path: Path):
    if os.geteuid() != 0:
        pytest.skip("mounting a small file system needs root")
    out, source = tmp_path / "small", tmp_path / "source"
    out.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(out)], check=False)
    if mounted.returncode != 0:
        pytest.skip("mounting is not allowed here")
    try:
        good = good_dataset()
        x = torch.zeros(6, 200, 200, dtype=torch.uint8).numpy()
        source.write_bytes(npz_bytes(**(good | {"train_x": x, "test_x": x[:3]})))
        with pytest.raises(ProblemError) as caught:
            read_upload(source, "dataset", "d.npz", out, Limits())
        assert caught.value.code == "storage_full"
        assert list(out.iterdir()) == []
    finally:
        subprocess.run(["umount", str(out)], check=True)
