"""Bytes to and from the server: they arrive whole and checked, or not at all."""

import base64
import hashlib
import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from scripted_server import NO_PAUSE, Answer, Request, ScriptedServer, a_file, a_job, json_answer, problem_answer

from adtn_client import Client, ConnectionFailed, IntegrityError, LocalError, ProblemError

BYTES = os.urandom(300_000)
SHA256 = hashlib.sha256(BYTES).hexdigest()
NAME = "model.dense.safetensors"


def job_with_artifact(**changes: object) -> Answer:
    artifact = {"name": NAME, "kind": "dense", "bytes": len(BYTES), "sha256": SHA256, "url": "/x", **changes}
    return json_answer(a_job(status="succeeded", finished_at="2026-01-31T12:00:01Z", artifacts=[artifact]))


def ranged(cut_after: int | None = None, etag: str = f'"{SHA256}"', body: bytes = BYTES) -> Callable[[Request], Answer]:
    """Answer as a server that knows ranges."""

    def answer(request: Request) -> Answer:
        wanted = re.fullmatch(r"bytes=(\d+)-", request.headers.get("Range", ""))
        if wanted and request.headers.get("If-Range") == etag:
            start = int(wanted[1])
            span = f"bytes {start}-{len(body) - 1}/{len(body)}"
            return Answer(206, body[start:], {"ETag": etag, "Content-Range": span}, cut_after)
        return Answer(200, body, {"ETag": etag}, cut_after)

    return answer


def files_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_upload_arrives_unchanged_with_its_digest(client: Client, server: ScriptedServer, tmp_path: Path) -> None:
    path = tmp_path / "my model.safetensors"
    path.write_bytes(BYTES)
    server.script.append(json_answer(a_file(sha256=SHA256, bytes=len(BYTES)), 201))
    seen: list[tuple[int, int]] = []
    assert client.files.upload(path, "checkpoint", on_bytes=lambda *done: seen.append(done)).id == "file_1"
    (request,) = server.requests
    assert request.body == BYTES
    assert request.path == "/v1/files?purpose=checkpoint&filename=my+model.safetensors"
    digest = base64.b64encode(hashlib.sha256(BYTES).digest()).decode()
    assert request.headers["Repr-Digest"] == f"sha-256=:{digest}:"
    assert seen[-1] == (len(BYTES), len(BYTES))


def test_upload_that_the_server_stored_wrong_is_an_error(
    client: Client, server: ScriptedServer, tmp_path: Path
) -> None:
    path = tmp_path / "m.safetensors"
    path.write_bytes(BYTES)
    server.script.append(json_answer(a_file(sha256="f" * 64), 201))
    with pytest.raises(IntegrityError, match="f" * 64):
        client.files.upload(path, "checkpoint")


def test_upload_of_a_missing_file_sends_nothing(client: Client, server: ScriptedServer, tmp_path: Path) -> None:
    with pytest.raises(LocalError, match="No such file"):
        client.files.upload(tmp_path / "nothing.pt", "checkpoint")
    assert server.requests == []


def test_download_that_breaks_off_goes_on_where_it_was(client: Client, server: ScriptedServer, tmp_path: Path) -> None:
    server.script += [job_with_artifact(), ranged(100_000), ranged(150_000), ranged()]
    client.jobs.download("job_1", NAME, tmp_path)
    assert (tmp_path / NAME).read_bytes() == BYTES
    assert [request.headers.get("Range") for request in server.requests[1:]] == [
        None,
        "bytes=100000-",
        "bytes=250000-",
    ]
    assert files_in(tmp_path) == [NAME]


def test_download_starts_over_when_the_bytes_changed_meanwhile(
    client: Client, server: ScriptedServer, tmp_path: Path
) -> None:
    server.script += [job_with_artifact(), ranged(100_000, '"old"', bytes(len(BYTES))), ranged()]
    client.jobs.download("job_1", NAME, tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == BYTES


def test_download_from_a_server_without_ranges_starts_over(
    client: Client, server: ScriptedServer, tmp_path: Path
) -> None:
    server.script += [job_with_artifact(), Answer(200, BYTES, cut_after=200_000), Answer(200, BYTES)]
    client.jobs.download("job_1", NAME, tmp_path)
    assert (tmp_path / NAME).read_bytes() == BYTES


def test_download_that_never_gets_further_ends(client: Client, server: ScriptedServer, tmp_path: Path) -> None:
    server.script += [job_with_artifact(), Answer(200, BYTES, cut_after=1000)]
    with pytest.raises(ConnectionFailed, match="again and again"):
        client.jobs.download("job_1", NAME, tmp_path)
    assert len(server.requests) == 1 + NO_PAUSE.attempts
    assert files_in(tmp_path) == []


@pytest.mark.parametrize("wrong", [bytes(len(BYTES)), BYTES[:-1], BYTES + b"x", b""])
def test_wrong_bytes_leave_the_old_file_alone(
    client: Client, server: ScriptedServer, tmp_path: Path, wrong: bytes
) -> None:
    (tmp_path / NAME).write_bytes(b"old")
    server.script += [job_with_artifact(), Answer(200, wrong)]
    with pytest.raises(IntegrityError):
        client.jobs.download("job_1", NAME, tmp_path)
    assert (tmp_path / NAME).read_bytes() == b"old"
    assert files_in(tmp_path) == [NAME]


def test_download_replaces_an_older_file(client: Client, server: ScriptedServer, tmp_path: Path) -> None:
    (tmp_path / NAME).write_bytes(b"old")
    server.script += [job_with_artifact(), ranged()]
    client.jobs.download("job_1", NAME, tmp_path)
    assert (tmp_path / NAME).read_bytes() == BYTES


def test_download_that_is_refused_leaves_nothing(client: Client, server: ScriptedServer, tmp_path: Path) -> None:
    server.script += [job_with_artifact(), problem_answer(404, "not_found", "no such artifact")]
    with pytest.raises(ProblemError, match="no such artifact"):
        client.jobs.download("job_1", NAME, tmp_path)
    assert files_in(tmp_path) == []


def test_unknown_artifact_is_named_with_those_there_are(client: Client, server: ScriptedServer, tmp_path: Path) -> None:
    server.script.append(job_with_artifact())
    with pytest.raises(LocalError, match=f"'model.onnx'; it has {NAME}"):
        client.jobs.download("job_1", "model.onnx", tmp_path)


@pytest.mark.parametrize("name", ["../escaped", "/etc/escaped", "a/b", "..", "a\\b", ""])
def test_artifact_cannot_be_written_outside_the_folder(
    client: Client, server: ScriptedServer, tmp_path: Path, name: str
) -> None:
    server.script += [job_with_artifact(name=name), ranged()]
    with pytest.raises(LocalError, match="no file name"):
        client.jobs.download("job_1", name, tmp_path)
    assert files_in(tmp_path) == []
