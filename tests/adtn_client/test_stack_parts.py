"""The parts of the embedded stack: paths, ports, the lock, the Redis server, one child process."""

import os
import signal
import socket
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support.waiting import wait_until

from adtn_client import StackError
from adtn_client.stack import child, kernel, layout, lock, ports, redis
from adtn_client.stack.child import Child
from adtn_client.stack.layout import Layout


def test_redis_socket_lies_in_the_data_directory_while_its_path_is_short(tmp_path: Path) -> None:
    assert layout.socket_path(tmp_path) == tmp_path / "redis.sock"


@pytest.mark.parametrize("length", [90, 200])
def test_redis_socket_can_be_bound_however_deep_the_data_directory(tmp_path: Path, length: int) -> None:
    deep = Layout(tmp_path / ("d" * length))
    deep.create()
    with socket.socket(socket.AF_UNIX) as unix:
        unix.bind(str(deep.redis_socket))
    deep.redis_socket.unlink()
    assert stat.S_IMODE(deep.redis_socket.parent.stat().st_mode) == 0o700


def test_two_data_directories_never_share_a_socket(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 120)
    assert layout.socket_path(deep / "a") != layout.socket_path(deep / "b")


def test_data_directory_is_for_its_user_alone(tmp_path: Path) -> None:
    made = Layout(tmp_path / "data")
    made.create()
    assert stat.S_IMODE(made.data_dir.stat().st_mode) == 0o700


def test_data_directory_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("")
    with pytest.raises(StackError, match="data directory"):
        Layout(tmp_path / "data").create()


def test_data_directory_that_urls_would_cut_short_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StackError, match="without"):
        Layout(tmp_path / "a#b").create()
    assert list(tmp_path.iterdir()) == []


def test_free_port_can_be_listened_on() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", ports.usable_port("127.0.0.1", 0)))


def test_taken_port_is_named() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        with pytest.raises(StackError, match=f"127.0.0.1:{port}.*--port"):
            ports.usable_port("127.0.0.1", port)


def test_address_of_another_machine_is_refused() -> None:
    with pytest.raises(StackError, match=r"192\.0\.2\.1"):
        ports.usable_port("192.0.2.1", 0)


@pytest.mark.parametrize(
    ("host", "url", "local"),
    [
        ("127.0.0.1", "http://127.0.0.1:80", "http://127.0.0.1:80"),
        ("0.0.0.0", "http://0.0.0.0:80", "http://127.0.0.1:80"),
        ("::", "http://[::]:80", "http://[::1]:80"),
    ],
)
def test_urls(host: str, url: str, local: str) -> None:
    assert (ports.url_of(host, 80), ports.local_url_of(host, 80)) == (url, local)


def test_lock_is_held_by_one_until_it_closes(tmp_path: Path) -> None:
    held = lock.take(tmp_path / "up.lock")
    with pytest.raises(StackError, match=f"already running on {tmp_path} .process {os.getpid()}"):
        lock.take(tmp_path / "up.lock")
    os.close(held)
    os.close(lock.take(tmp_path / "up.lock"))


@pytest.mark.redis
def test_redis_keeps_its_data_and_listens_on_no_port(tmp_path: Path) -> None:
    place = Layout(tmp_path)
    place.create()
    server = Child("redis", redis.command(place), os.environ, place.logs / "redis.log")
    assert not redis.answers(place.redis_socket)
    server.start()
    wait_until(lambda: redis.answers(place.redis_socket), within_s=10)
    answers = {setting: ask(place.redis_socket, f"CONFIG GET {setting}") for setting in REDIS_SETTINGS}
    server.signal(signal.SIGTERM)
    wait_until(lambda: server.ended() is not None, within_s=10)
    assert answers == REDIS_SETTINGS


REDIS_SETTINGS = {"port": "0", "appendonly": "yes", "appendfsync": "everysec", "maxmemory-policy": "noeviction"}


def ask(path: Path, command: str) -> str:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(path))
        connection.sendall(f"{command}\r\n".encode())
        return connection.recv(1000).decode().splitlines()[-1]


def python(code: str, tmp_path: Path) -> Child:
    return Child("test", [sys.executable, "-c", code], os.environ, tmp_path / "test.log")


def test_child_tells_once_how_it_ended(tmp_path: Path) -> None:
    ending = python("print('bye'); raise SystemExit(3)", tmp_path)
    ending.start()
    told: list[str | None] = []
    wait_until(lambda: told.append(ending.ended()) or told[-1] is not None, within_s=10)
    assert told[-1] == "ended with exit code 3"
    assert ending.ended() is None
    assert ending.last_lines() == "bye"


def test_killed_child_is_told_by_its_signal(tmp_path: Path) -> None:
    sleeping = python("import time; time.sleep(60)", tmp_path)
    sleeping.start()
    sleeping.signal(signal.SIGKILL)
    told: list[str | None] = []
    wait_until(lambda: told.append(sleeping.ended()) or told[-1] is not None, within_s=10)
    assert told[-1] == "was killed by SIGKILL"


def test_pause_before_a_restart_doubles_up_to_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dying = python("", tmp_path)
    monkeypatch.setattr(time, "monotonic", lambda: 1.0)
    pauses = [dying.plan_restart() for _ in range(9)]
    assert pauses == [0.5, 1, 2, 4, 8, 16, 30, 30, 30]
    monkeypatch.setattr(time, "monotonic", lambda: 2.0 + child.HEALTHY_AFTER_S)
    assert dying.plan_restart() == 0.5


def test_descendants_are_found_over_sessions() -> None:
    grandchild = "import subprocess, sys; subprocess.run(['sleep', '60'], start_new_session=True)"
    with subprocess.Popen([sys.executable, "-c", grandchild]) as process:
        wait_until(lambda: len(kernel.descendants(process.pid)) == 1, within_s=10)
        (sleeping,) = kernel.descendants(process.pid)
        assert {process.pid, sleeping} <= set(kernel.descendants(os.getpid()))
        kernel.kill(sleeping)
    kernel.kill(sleeping)
