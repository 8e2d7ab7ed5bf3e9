"""Bad input is told clearly, by a stable code, with what was expected, what came, and where."""

import gzip
import io
import pickle
import zipfile
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from support.api import create, finished, inspected, upload
from support.digits import DigitsLeNet

pytestmark = [pytest.mark.e2e, pytest.mark.redis]


@pytest.fixture(scope="module")
def file_id(stack: Any, checkpoint: Path) -> str:
    with stack.client() as api:
        return str(upload(api, checkpoint)["id"])


def problem(answer: httpx.Response) -> dict[str, Any]:
    assert answer.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = answer.json()
    assert body["status"] == answer.status_code
    return body


def rejection(api: httpx.Client, path: Path, purpose: str = "checkpoint") -> dict[str, Any]:
    """The problem that an upload ends with, at once or after its inspection."""
    answer = api.post("/v1/files", params={"purpose": purpose, "filename": path.name}, content=path.read_bytes())
    if answer.status_code == 422:
        return problem(answer)
    assert answer.status_code == 201, answer.text
    file = inspected(api, answer.json())
    assert file["status"] == "rejected"
    error: dict[str, Any] = file["error"]
    return error


@pytest.mark.parametrize(
    ("changes", "code", "words"),
    [
        ({"architecture": "resnet9000"}, "unknown_architecture", ["resnet9000", "lenet5"]),
        ({"dataset": "imagenet"}, "unknown_dataset", ["imagenet", "digits"]),
        ({"compression": {"layers": ["fc9"]}}, "layer_not_found", ["fc9"]),
        ({"compression": {"layers": ["fc1"], "target": {"parameters": 3}}}, "target_unreachable", ["3", "smallest"]),
        ({"compression": {"layers": ["fc1"], "target": {"ratio": 1e6}}}, "target_unreachable", ["smallest"]),
        ({"fine_tune": {"epochs": 10**9}}, "validation_failed", ["epochs"]),
        ({"colour": "blue"}, "validation_failed", ["colour"]),
    ],
)
def test_settings_that_cannot_work_are_refused_at_once(
    api: httpx.Client, file_id: str, changes: dict[str, Any], code: str, words: list[str]
) -> None:
    settings = {"checkpoint": file_id, "architecture": "lenet5", "dataset": "digits"} | changes
    answer = api.post("/v1/jobs", json=settings)
    assert answer.status_code == 422
    assert problem(answer)["code"] == code
    for word in words:
        assert word in answer.text


def test_file_of_nobody_is_not_found(api: httpx.Client) -> None:
    answer = api.post("/v1/jobs", json={"checkpoint": "file_" + "0" * 32})
    assert answer.status_code == 404
    assert problem(answer)["code"] == "not_found"


def test_missing_and_misshapen_keys_are_each_named(api: httpx.Client, trained: DigitsLeNet, tmp_path: Path) -> None:
    state = dict(trained.state_dict())
    del state["fc3.bias"]
    state["fc2.weight"] = torch.zeros(64, 95)
    path = tmp_path / "odd.safetensors"
    save_file(state, path)
    file = upload(api, path)
    job = finished(api, create(api, checkpoint=file["id"], architecture="lenet5", dataset="digits")["id"])
    assert job["status"] == "failed"
    assert job["error"]["code"] == "checkpoint_mismatch"
    faults = {fault["pointer"]: fault["detail"] for fault in job["error"]["errors"]}
    assert {"fc3.bias", "fc2.weight"} <= faults.keys()
    assert "95" in faults["fc2.weight"]
    assert "96" in faults["fc2.weight"]


def test_data_of_another_shape_are_refused(api: httpx.Client, file_id: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    path = tmp_path / "large.npz"
    images, labels = rng.integers(0, 255, (8, 31, 31), np.uint8), np.arange(8)
    np.savez(path, train_x=images, train_y=labels, test_x=images, test_y=labels)
    file = upload(api, path, "dataset")
    assert file["status"] == "ready"
    job = finished(api, create(api, checkpoint=file_id, architecture="lenet5", dataset=file["id"])["id"])
    assert job["status"] == "failed"
    assert job["error"]["code"] == "dataset_mismatch"
    assert "31" in job["error"]["detail"]


def test_labels_outside_the_models_classes_are_refused(api: httpx.Client, file_id: str, tmp_path: Path) -> None:
    path = tmp_path / "labels.npz"
    images, labels = np.zeros((4, 8, 8), np.uint8), np.array([0, 1, 2, 10])
    np.savez(path, train_x=images, train_y=labels, test_x=images, test_y=labels)
    file = upload(api, path, "dataset")
    job = finished(api, create(api, checkpoint=file_id, architecture="lenet5", dataset=file["id"])["id"])
    assert job["status"] == "failed"
    assert job["error"]["code"] == "labels_out_of_range"
    assert "10" in job["error"]["detail"]


def test_file_of_the_other_purpose_is_refused(api: httpx.Client, file_id: str) -> None:
    answer = api.post("/v1/jobs", json={"checkpoint": file_id, "architecture": "lenet5", "dataset": file_id})
    assert answer.status_code == 422
    assert problem(answer)["code"] == "wrong_purpose"


def write_empty(path: Path) -> None:
    path.write_bytes(b"")


def write_truncated(path: Path) -> None:
    save_file(DigitsLeNet().state_dict(), path)
    path.write_bytes(path.read_bytes()[:-100])


def write_web_page(path: Path) -> None:
    path.write_text("<!DOCTYPE html><html><body>Sign in</body></html>")


def write_no_tensors(path: Path) -> None:
    torch.save({"epoch": 3, "name": "lenet"}, path)


class Payload:
    """Unpickled, this would leave a file behind."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def write_code(path: Path) -> None:
    torch.save({"fc1.weight": Payload(path.with_name("executed"))}, path)


def write_bare_pickle(path: Path) -> None:
    path.write_bytes(pickle.dumps(Payload(path.with_name("executed"))))


def write_nan(path: Path) -> None:
    save_file(DigitsLeNet().state_dict() | {"fc1.bias": torch.full((96,), torch.nan)}, path)


@pytest.mark.parametrize(
    ("write", "code"),
    [
        (write_empty, "empty_file"),
        (write_truncated, "truncated_file"),
        (write_web_page, "unsupported_format"),
        (write_no_tensors, "not_a_checkpoint"),
        (write_code, "checkpoint_contains_code"),
        (write_bare_pickle, "checkpoint_contains_code"),
        (write_nan, "non_finite_values"),
    ],
)
def test_broken_checkpoints_are_rejected_and_nothing_of_them_runs(
    api: httpx.Client, tmp_path: Path, write: Any, code: str
) -> None:
    path = tmp_path / "upload.pt"
    write(path)
    assert rejection(api, path)["code"] == code
    assert not (tmp_path / "executed").exists()


def test_infinite_data_are_rejected(api: httpx.Client, tmp_path: Path) -> None:
    path = tmp_path / "inf.npz"
    images = np.full((4, 8, 8), np.inf, np.float32)
    np.savez(path, train_x=images, train_y=np.arange(4), test_x=images, test_y=np.arange(4))
    assert rejection(api, path, "dataset")["code"] == "non_finite_values"


def test_idx_file_shorter_than_it_says_is_rejected(api: httpx.Client, tmp_path: Path) -> None:
    images = bytes([0, 0, 8, 3]) + b"".join(n.to_bytes(4, "big") for n in (4, 8, 8)) + bytes(4 * 64 - 1)
    labels = bytes([0, 0, 8, 1]) + (4).to_bytes(4, "big") + bytes(4)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for split in ("train", "t10k"):
            archive.writestr(f"{split}-images-idx3-ubyte.gz", gzip.compress(images))
            archive.writestr(f"{split}-labels-idx1-ubyte.gz", gzip.compress(labels))
    path = tmp_path / "mnist.zip"
    path.write_bytes(buffer.getvalue())
    error = rejection(api, path, "dataset")
    assert error["code"] == "truncated_file"
    assert "train-images-idx3-ubyte" in error["detail"]


def test_job_that_names_a_file_before_it_is_inspected_fails_with_the_files_problem(
    api: httpx.Client, tmp_path: Path
) -> None:
    path = tmp_path / "nan.safetensors"
    write_nan(path)
    answer = api.post("/v1/files", params={"purpose": "checkpoint", "filename": path.name}, content=path.read_bytes())
    job = finished(api, create(api, checkpoint=answer.json()["id"], architecture="lenet5", dataset="digits")["id"])
    assert job["status"] == "failed"
    assert job["error"]["code"] in {"non_finite_values", "file_rejected"}
    assert "fc1.bias" in job["error"]["detail"]
