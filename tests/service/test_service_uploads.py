"""Large, broken and unwelcome uploads to a real server process."""

import hashlib
import socket
import time
from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

import httpx
import psutil
import pytest
from service_support import SAFETENSORS, Server, problem
from support.waiting import wait_until

CHECKPOINT = {"purpose": "checkpoint", "filename": "big.safetensors"}
MIB = 1024**2
BLOCK = bytes(range(256)) * 4096


def blocks(count: int) -> Iterator[bytes]:
    yield SAFETENSORS
    for _ in range(count):
        yield BLOCK


def peak_memory(server: Server) -> int:
    """The largest resident memory that the server has had, in bytes."""
    with open(f"/proc/{server.process.pid}/status") as file:
        line = next((line for line in file if line.startswith("VmHWM")), None)
    if line is None:
        pytest.skip("the kernel does not tell the peak memory of a process")
    return int(line.split()[1]) * 1024


def multipart(count: int) -> Iterator[bytes]:
    yield b'--b\r\nContent-Disposition: form-data; name="file"; filename="big.safetensors"\r\n\r\n'
    yield from blocks(count)
    yield b"\r\n--b--\r\n"


@pytest.mark.parametrize("form", [False, True], ids=["body", "form"])
def test_memory_stays_flat_while_a_large_file_goes_in_and_out(form: bool, make_server: Callable[..., Server]) -> None:
    server = make_server()
    count = 256
    with httpx.Client(base_url=server.url, timeout=120) as api:
        for warm in (b"PK\x03\x04" + bytes(MIB), SAFETENSORS):
            small = api.post("/v1/files", params=CHECKPOINT, content=warm).json()
            api.get(f"/v1/files/{small['id']}/content")
        before = peak_memory(server)
        headers = {"Content-Type": "multipart/form-data; boundary=b"} if form else {}
        body = multipart(count) if form else blocks(count)
        file = api.post("/v1/files", params=CHECKPOINT, content=body, headers=headers).json()
        digest = hashlib.sha256()
        size = 0
        with api.stream("GET", f"/v1/files/{file['id']}/content") as answer:
            for chunk in answer.iter_raw():
                digest.update(chunk)
                size += len(chunk)
        assert size == file["bytes"] == count * MIB + len(SAFETENSORS)
        assert digest.hexdigest() == file["sha256"]
        assert peak_memory(server) - before < 64 * MIB
        api.delete(f"/v1/files/{file['id']}")


@pytest.fixture
def small_server(make_server: Callable[..., Server]) -> Server:
    """A server that takes files of up to 2 MiB, and other bodies of up to 1 KiB."""
    return make_server(ADTN_MAX_UPLOAD_BYTES=str(2 * MIB), ADTN_MAX_BODY_BYTES="1024")


def test_a_body_over_the_limit_is_refused_whatever_it_announces(small_server: Server) -> None:
    form = {"Content-Type": "multipart/form-data; boundary=b"}
    json = {"Content-Type": "application/json"}
    with httpx.Client(base_url=small_server.url) as api:
        fits = api.post("/v1/files", params=CHECKPOINT, content=SAFETENSORS + bytes(2 * MIB - len(SAFETENSORS)))
        assert fits.status_code == 201
        before = small_server.objects
        for answer in (
            api.post("/v1/files", params=CHECKPOINT, content=b"".join(blocks(2))),
            api.post("/v1/files", params=CHECKPOINT, content=blocks(3)),
            api.post("/v1/files", params=CHECKPOINT, content=multipart(3), headers=form),
            api.post("/v1/jobs", content=b"x" * 2000, headers=json),
            api.post("/v1/jobs", content=iter([b"x" * 800] * 2), headers=json),
            api.post("/v1/jobs/estimate", content=iter([b"x" * 800] * 2), headers=json),
        ):
            assert "at most" in problem(answer, 413, "too_large")["detail"]
    assert small_server.objects == before


def test_a_client_that_goes_away_leaves_nothing(make_server: Callable[..., Server]) -> None:
    server = make_server()
    address = urlsplit(server.url)
    with socket.create_connection((address.hostname, address.port)) as connection:
        connection.sendall(
            b"POST /v1/files?purpose=checkpoint HTTP/1.1\r\nHost: localhost\r\nContent-Length: 900000000\r\n\r\n"
            + SAFETENSORS
        )
        for _ in range(12):
            connection.sendall(BLOCK)
        wait_until(lambda: server.objects != [], within_s=20)
    wait_until(lambda: server.objects == [], within_s=20)
    assert "Traceback" not in server.log


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_that_stops_arriving_is_given_up(chunked: bool, make_server: Callable[..., Server]) -> None:
    server = make_server(ADTN_BODY_SILENCE_S="1")
    address = urlsplit(server.url)
    announced = b"Transfer-Encoding: chunked" if chunked else b"Content-Length: 900000000"
    body = b"%x\r\n%b\r\n" % (len(SAFETENSORS), SAFETENSORS) if chunked else SAFETENSORS
    with socket.create_connection((address.hostname, address.port), timeout=60) as connection:
        connection.sendall(
            b"POST /v1/files?purpose=checkpoint HTTP/1.1\r\nHost: localhost\r\n" + announced + b"\r\n\r\n" + body
        )
        answer = b""
        while not answer.endswith(b"}"):
            answer += (received := connection.recv(65536))
            assert received, answer
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b'"code":"request_timeout"' in answer
    assert server.objects == []
    assert "Traceback" not in server.log


def test_a_slow_body_that_keeps_arriving_is_taken(make_server: Callable[..., Server]) -> None:
    server = make_server(ADTN_BODY_SILENCE_S="2")

    def slowly() -> Iterator[bytes]:
        for start in range(0, len(SAFETENSORS), 1 + len(SAFETENSORS) // 4):
            yield SAFETENSORS[start : start + 1 + len(SAFETENSORS) // 4]
            time.sleep(0.7)

    with httpx.Client(base_url=server.url, timeout=60) as api:
        assert api.post("/v1/files", params=CHECKPOINT, content=slowly()).status_code == 201


@pytest.mark.parametrize("form", [False, True], ids=["body", "form"])
def test_a_full_disk_is_said_and_nothing_is_kept(form: bool, make_server: Callable[..., Server]) -> None:
    server = make_server()
    # No file of the server may grow over 8 MiB from now on: to it, the disk is full.
    psutil.Process(server.process.pid).rlimit(psutil.RLIMIT_FSIZE, (8 * MIB, 8 * MIB))
    headers = {"Content-Type": "multipart/form-data; boundary=b"} if form else {}
    with httpx.Client(base_url=server.url, timeout=60) as api:
        body = multipart(40) if form else blocks(40)
        problem(api.post("/v1/files", params=CHECKPOINT, content=body, headers=headers), 507, "storage_full")
        assert server.objects == []
        assert api.get("/v1/files").json()["data"] == []
        # What still fits is still taken.
        assert api.post("/v1/files", params=CHECKPOINT, content=SAFETENSORS).status_code == 201
    assert "Traceback" not in server.log


def test_a_full_disk_is_said_for_a_job_in_one_request(make_server: Callable[..., Server]) -> None:
    server = make_server()
    psutil.Process(server.process.pid).rlimit(psutil.RLIMIT_FSIZE, (8 * MIB, 8 * MIB))
    form = {"checkpoint": ("m.safetensors", SAFETENSORS), "dataset": ("d.npz", b"PK\x03\x04" + bytes(20 * MIB))}
    with httpx.Client(base_url=server.url, timeout=60) as api:
        problem(api.post("/v1/jobs", files=form), 507, "storage_full")
        assert api.get("/v1/jobs").json()["data"] == []
    assert server.objects == []
