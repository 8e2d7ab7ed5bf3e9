"""Files over HTTP."""

import base64
import hashlib
import random
from collections.abc import Callable, Iterator

import httpx
import pytest
from service_support import LENET, SAFETENSORS, Server, Worker, problem

from adtn.plan import predicted_parameters

CHECKPOINT = {"purpose": "checkpoint", "filename": "m.safetensors"}
DIGEST = hashlib.sha256(SAFETENSORS).hexdigest()


def repr_digest(content: bytes) -> str:
    return f"sha-256=:{base64.b64encode(hashlib.sha256(content).digest()).decode()}:"


def test_an_upload_is_a_file_that_waits_for_its_inspection(api: httpx.Client) -> None:
    answer = api.post("/v1/files", params=CHECKPOINT, content=SAFETENSORS)
    file = answer.json()
    assert answer.status_code == 201
    assert answer.headers["location"] == f"/v1/files/{file['id']}"
    assert file["id"].startswith("file_")
    assert file["created_at"].endswith("Z")
    assert {key: file[key] for key in file if key not in ("id", "created_at")} == {
        "object": "file",
        "filename": "m.safetensors",
        "purpose": "checkpoint",
        "bytes": len(SAFETENSORS),
        "sha256": DIGEST,
        "format": None,
        "status": "processing",
        "error": None,
        "summary": None,
        "expires_at": None,
    }
    assert api.get(answer.headers["location"]).json() == file
    assert api.get("/v1/files", params={"limit": 1}).json()["data"] == [file]


def test_a_form_is_an_upload_too_in_any_order_of_its_fields(api: httpx.Client) -> None:
    content = b"PK\x03\x04" + b"\r\n--" * 50_000 + b"\r"
    form = {"file": ("data.npz", content), "purpose": (None, "dataset"), "sha256": (None, sha256(content))}
    file = api.post("/v1/files", files=form).json()
    assert (file["filename"], file["purpose"], file["bytes"]) == ("data.npz", "dataset", len(content))
    assert api.get(f"/v1/files/{file['id']}/content").content == content


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def test_a_chunked_body_of_any_cut_arrives_whole(api: httpx.Client) -> None:
    content = SAFETENSORS + random.Random(1).randbytes(100_000)

    def pieces() -> Iterator[bytes]:
        yield content[:1]
        yield content[1:300]
        yield content[300:700]
        yield content[700:]

    file = api.post("/v1/files", params=CHECKPOINT, content=pieces()).json()
    assert file["sha256"] == sha256(content)
    assert api.get(f"/v1/files/{file['id']}/content").content == content


@pytest.mark.parametrize(
    ("parameters", "headers"),
    [
        ({"sha256": DIGEST}, {}),
        ({"sha256": DIGEST.upper()}, {}),
        ({}, {"Repr-Digest": repr_digest(SAFETENSORS)}),
        ({}, {"Repr-Digest": f"md5=:AAAA:, {repr_digest(SAFETENSORS)}"}),
    ],
)
def test_a_digest_that_fits_is_accepted(parameters: dict[str, str], headers: dict[str, str], api: httpx.Client) -> None:
    answer = api.post("/v1/files", params=CHECKPOINT | parameters, headers=headers, content=SAFETENSORS)
    assert answer.status_code == 201


@pytest.mark.parametrize(
    ("parameters", "headers", "code", "status"),
    [
        ({"sha256": "0" * 64}, {}, "digest_mismatch", 422),
        ({}, {"Repr-Digest": repr_digest(b"other")}, "digest_mismatch", 422),
        ({"sha256": "xyz"}, {}, "malformed_request", 400),
        ({}, {"Repr-Digest": "sha-256=:AAAA:"}, "malformed_request", 400),
        ({}, {"Repr-Digest": f"sha-256={DIGEST}"}, "malformed_request", 400),
        ({}, {"Repr-Digest": f"md5=:AAAA:, SHA-256 = {DIGEST}"}, "malformed_request", 400),
        ({"sha265": DIGEST}, {}, "validation_failed", 422),
        ({"sha256": "0" * 64}, {"Repr-Digest": repr_digest(SAFETENSORS)}, "malformed_request", 400),
    ],
)
def test_a_digest_that_does_not_fit_is_refused_and_nothing_is_kept(
    parameters: dict[str, str], headers: dict[str, str], code: str, status: int, server: Server, api: httpx.Client
) -> None:
    before = server.objects
    answer = api.post("/v1/files", params=CHECKPOINT | parameters, headers=headers, content=SAFETENSORS)
    problem(answer, status, code)
    assert server.objects == before


@pytest.mark.parametrize(
    ("content", "code", "says"),
    [
        (b"", "empty_file", "0 bytes"),
        (b"<!DOCTYPE html><html>", "unsupported_format", "HTML"),
        (b"  \n<?xml version='1.0'?>", "unsupported_format", "HTML or XML"),
        (b"\x89PNG\r\n\x1a\n" + bytes(600), "unsupported_format", "a single image"),
        (b"\xff\xd8\xff\xe0" + bytes(600), "unsupported_format", "a single image"),
        (b"version https://git-lfs.github.com/spec/v1", "unsupported_format", "Git LFS"),
        (b"\x89HDF\r\n\x1a\n" + bytes(1000), "unsupported_format", "HDF5"),
        (b"GGUF" + bytes(1000), "unsupported_format", "GGUF"),
        (b'{"error": "not found"}', "unsupported_format", "JSON"),
        (b"\x93NUMPY" + bytes(1000), "unsupported_format", ".npz"),
        (b"hello", "unsupported_format", "none of these"),
        (bytes(1000), "unsupported_format", "none of these"),
    ],
)
def test_what_is_certainly_no_upload_is_refused_at_once(
    content: bytes, code: str, says: str, server: Server, api: httpx.Client
) -> None:
    before = server.objects
    assert says in problem(api.post("/v1/files", params=CHECKPOINT, content=content), 422, code)["detail"]
    assert server.objects == before


@pytest.mark.parametrize(
    "start", [b"PK\x03\x04", b"\x1f\x8b", b"\x80\x02", SAFETENSORS, bytes(257) + b"ustar"], ids=repr
)
def test_what_the_sandbox_might_read_is_left_to_it(start: bytes, upload: Callable[..., str]) -> None:
    assert upload(content=start + bytes(600)).startswith("file_")


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("../../etc/passwd", "passwd"),
        ("C:\\models\\m.pt", "m.pt"),
        ("a\nb\x1b[31m\u202e.pt", "ab[31m.pt"),
        ("..", "upload"),
        ("dir/", "upload"),
        ("x" * 500, "x" * 200),
        ("Modèle 1.pt", "Modèle 1.pt"),
    ],
)
def test_names_are_made_harmless(given: str, kept: str, api: httpx.Client) -> None:
    file = api.post("/v1/files", params=CHECKPOINT | {"filename": given}, content=SAFETENSORS).json()
    assert file["filename"] == kept
    disposition = api.get(f"/v1/files/{file['id']}/content").headers["content-disposition"]
    assert disposition.startswith("attachment; ")
    assert disposition.isascii()


@pytest.mark.parametrize(
    ("parameters", "code"),
    [({}, "missing"), ({"purpose": "model"}, "literal_error"), ({"purpose": ""}, "literal_error")],
)
def test_an_upload_needs_a_purpose(parameters: dict[str, str], code: str, api: httpx.Client) -> None:
    body = problem(api.post("/v1/files", params=parameters, content=SAFETENSORS), 422, "validation_failed")
    assert [(fault["pointer"], fault["code"]) for fault in body["errors"]] == [("/purpose", code)]


@pytest.mark.parametrize(
    ("content_type", "body", "says"),
    [
        ("multipart/form-data", b"x", "no boundary"),
        ("multipart/form-data; boundary=b", b"nonsense", "cannot be read"),
        ("multipart/form-data; boundary=b", b"--b\r\n", "cut short"),
        (
            "multipart/form-data; boundary=b",
            b'--b\r\nContent-Disposition: form-data; name="file"\r\n\r\nPK\x03\x04',
            "cut",
        ),
        ("multipart/form-data; boundary=b", b"--b\r\nX: y\r\n\r\nabc\r\n--b--\r\n", "no name"),
    ],
)
def test_a_form_that_cannot_be_read_is_refused_and_nothing_is_kept(
    content_type: str, body: bytes, says: str, server: Server, api: httpx.Client
) -> None:
    before = server.objects
    answer = api.post("/v1/files", params=CHECKPOINT, content=body, headers={"Content-Type": content_type})
    assert says in problem(answer, 400, "malformed_request")["detail"]
    assert server.objects == before


def test_a_form_with_unknown_or_missing_fields_is_refused(server: Server, api: httpx.Client) -> None:
    before = server.objects
    unknown = {"file": ("m.pt", b"PK\x03\x04" + bytes(900)), "purpose": (None, "checkpoint"), "colour": (None, "red")}
    assert problem(api.post("/v1/files", files=unknown), 422, "validation_failed")["errors"][0]["pointer"] == "/colour"
    missing = {"purpose": (None, "checkpoint")}
    assert problem(api.post("/v1/files", files=missing), 422, "validation_failed")["errors"][0]["pointer"] == "/file"
    without = {"file": ("m.pt", b"PK\x03\x04" + bytes(900))}
    assert problem(api.post("/v1/files", files=without), 422, "validation_failed")["errors"][0]["pointer"] == "/purpose"
    assert server.objects == before


def test_layers_are_listed_with_what_an_adtn_would_take(checkpoint: str, api: httpx.Client) -> None:
    layers = api.get(f"/v1/files/{checkpoint}/layers").json()["data"]
    assert [layer["name"] for layer in layers] == [layer["name"] for layer in LENET]
    fc1 = next(layer for layer in layers if layer["name"] == "fc1")
    assert fc1 == {
        "name": "fc1",
        "kind": "linear",
        "shape": [120, 400],
        "dtype": "float32",
        "parameters": 48000,
        "eligible": True,
        "reason": None,
        "predicted_parameters": predicted_parameters((120, 400)),
    }
    assert layers[-1]["predicted_parameters"] is None
    assert "fewer than 64" in layers[-1]["reason"]


def test_layers_come_after_the_inspection(upload: Callable[..., str], api: httpx.Client) -> None:
    answer = api.get(f"/v1/files/{upload()}/layers")
    problem(answer, 409, "file_not_ready")
    assert answer.headers["retry-after"] == "1"


def test_a_rejected_file_says_why(upload: Callable[..., str], worker: Worker, api: httpx.Client) -> None:
    from jobs import files
    from jobs.problems import Fault, ProblemError

    file_id = upload()
    fault = Fault("fc1.weight", "3 values are NaN", "non_finite_values")
    files.mark_rejected(worker.db, file_id, ProblemError("non_finite_values", "fc1.weight has NaN", [fault]))
    error = api.get(f"/v1/files/{file_id}").json()["error"]
    assert (error["code"], error["status"], error["detail"]) == ("non_finite_values", 422, "fc1.weight has NaN")
    assert error["errors"] == [{"pointer": "fc1.weight", "detail": "3 values are NaN", "code": "non_finite_values"}]
    assert "fc1.weight has NaN" in problem(api.get(f"/v1/files/{file_id}/layers"), 422, "file_rejected")["detail"]


def test_a_dataset_has_no_layers(upload: Callable[..., str], worker: Worker, api: httpx.Client) -> None:
    file_id = upload("dataset")
    worker.inspect(file_id)
    problem(api.get(f"/v1/files/{file_id}/layers"), 422, "wrong_purpose")


def test_a_deleted_file_is_gone_with_its_bytes(server: Server, upload: Callable[..., str], api: httpx.Client) -> None:
    before = server.objects
    file_id = upload()
    assert api.delete(f"/v1/files/{file_id}").status_code == 204
    problem(api.get(f"/v1/files/{file_id}"), 404, "not_found")
    problem(api.delete(f"/v1/files/{file_id}"), 404, "not_found")
    assert server.objects == before


def test_a_file_that_a_job_uses_is_not_deleted(checkpoint: str, api: httpx.Client) -> None:
    job = api.post("/v1/jobs", json={"checkpoint": checkpoint}).json()
    assert job["id"] in problem(api.delete(f"/v1/files/{checkpoint}"), 409, "file_in_use")["detail"]
    api.post(f"/v1/jobs/{job['id']}/cancel")
    assert api.delete(f"/v1/files/{checkpoint}").status_code == 204


def test_pages_of_files_follow_each_other(upload: Callable[..., str], api: httpx.Client) -> None:
    made = [upload() for _ in range(3)]
    first = api.get("/v1/files", params={"limit": 2}).json()
    assert ([file["id"] for file in first["data"]], first["has_more"]) == ([made[2], made[1]], True)
    second = api.get("/v1/files", params={"limit": 1, "after": made[1]}).json()
    assert [file["id"] for file in second["data"]] == [made[0]]
    body = problem(api.get("/v1/files", params={"after": "file_none"}), 422, "validation_failed")
    assert body["errors"][0]["pointer"] == "/after"
