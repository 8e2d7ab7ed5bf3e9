"""A model that brings its graph goes in without an architecture, and comes out in its own keys, as good as reported."""

from pathlib import Path

import httpx
import pytest
from safetensors.torch import load as load_bytes
from support.api import artifact, create, succeeded, upload
from support.digits import accuracy, train
from support.exported import LeNet, exported, images

from worker.datasets import Dataset

pytestmark = [pytest.mark.e2e, pytest.mark.redis, pytest.mark.filterwarnings("ignore")]  # torch's own, while it exports


def test_a_small_network_is_compressed_without_naming_an_architecture(
    api: httpx.Client, digits: Dataset, tmp_path: Path
) -> None:
    model = LeNet()
    train(model, digits, epochs=4)
    path = tmp_path / "model.pt2"
    path.write_bytes(exported(model, images(4)))
    file = upload(api, path)
    assert file["status"] == "ready"
    assert file["format"] == "exported_program"
    layers = api.get(f"/v1/files/{file['id']}/layers").json()["data"]
    assert [(layer["name"], layer["kind"]) for layer in layers] == [
        ("conv1", "conv2d"),
        ("conv2", "conv2d"),
        ("fc", "linear"),
    ]

    settings = {
        "checkpoint": file["id"],
        "dataset": "digits",
        "compression": {"layers": ["conv2", "fc"], "structure": {"depth": 2}},
        "fine_tune": {"epochs": 5, "batch_size": 64},
    }
    estimate = api.post("/v1/jobs/estimate", json=settings)
    assert estimate.status_code == 200, estimate.text
    job = succeeded(api, create(api, **settings)["id"])
    report = job["report"]
    assert report["accuracy"]["baseline"] == accuracy(model, digits.test_x, digits.test_y)
    assert report["accuracy"]["final"] > report["accuracy"]["after_fit"]
    assert report["verified"]["accuracy"] == report["accuracy"]["final"]
    counted = int(model.norm.num_batches_tracked)
    model.load_state_dict(load_bytes(artifact(api, job["id"], "model.dense.safetensors")))
    assert accuracy(model, digits.test_x, digits.test_y) == report["accuracy"]["final"]
    # The norm was trained on, though it was exported in evaluation mode: its operator can be switched.
    assert int(model.norm.num_batches_tracked) > counted
