"""A checkpoint goes in over HTTP; a compressed model and a report that holds come out."""

import hashlib
import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from safetensors import safe_open
from safetensors.torch import load as load_bytes
from support.api import artifact, create, succeeded, upload
from support.digits import DigitsLeNet, accuracy

import adtn
from worker.datasets import Dataset

pytestmark = [pytest.mark.e2e, pytest.mark.redis]

ENCODED = ["conv2", "fc1", "fc2"]
TARGET = 1000


@pytest.fixture(scope="module")
def settings(stack: Any, checkpoint: Path) -> dict[str, Any]:
    with stack.client() as api:
        file = upload(api, checkpoint)
    assert file["status"] == "ready"
    return {
        "checkpoint": file["id"],
        "architecture": "lenet5",
        "dataset": "digits",
        "compression": {"layers": ENCODED, "target": {"parameters": TARGET}},
        "fine_tune": {"epochs": 15, "batch_size": 64},
        "seed": 3,
    }


@pytest.fixture(scope="module")
def job(stack: Any, settings: dict[str, Any]) -> dict[str, Any]:
    with stack.client() as api:
        return succeeded(api, create(api, **settings)["id"])


def test_report_has_the_baseline_that_the_user_measures(
    job: dict[str, Any], trained: DigitsLeNet, digits: Dataset
) -> None:
    assert job["report"]["accuracy"]["baseline"] == accuracy(trained, digits.test_x, digits.test_y)
    assert job["report"]["accuracy"]["samples"] == len(digits.test_y)


def test_dense_artifact_in_the_users_own_model_has_the_reported_accuracy(
    api: httpx.Client, job: dict[str, Any], digits: Dataset
) -> None:
    model = DigitsLeNet().eval()
    model.load_state_dict(load_bytes(artifact(api, job["id"], "model.dense.safetensors")))
    assert accuracy(model, digits.test_x, digits.test_y) == job["report"]["accuracy"]["final"]


def test_adtn_artifact_in_the_users_own_model_has_the_reported_accuracy(
    api: httpx.Client, job: dict[str, Any], digits: Dataset, tmp_path: Path
) -> None:
    path = tmp_path / "model.adtn.safetensors"
    path.write_bytes(artifact(api, job["id"], path.name))
    model = DigitsLeNet().eval()
    adtn.load(path, model)
    assert accuracy(model, digits.test_x, digits.test_y) == job["report"]["accuracy"]["final"]


def test_fine_tuning_recovers_what_the_fit_lost(job: dict[str, Any]) -> None:
    figures = job["report"]["accuracy"]
    assert figures["after_fit"] < figures["final"]
    assert figures["final"] > figures["baseline"] - 0.06


def test_counts_are_of_numbers_in_the_written_file(
    api: httpx.Client, job: dict[str, Any], trained: DigitsLeNet, tmp_path: Path
) -> None:
    path = tmp_path / "model.adtn.safetensors"
    path.write_bytes(artifact(api, job["id"], path.name))
    with safe_open(path, "pt") as file:
        stored = {key: file.get_tensor(key).numel() for key in file.keys()}  # noqa: SIM118 - not a dict
    counts = job["report"]["parameters"]
    assert sum(stored.values()) == counts["compressed"]
    assert sum(stored[f"{name}.weight.gates"] for name in ENCODED) == counts["encoded"]["compressed"] <= TARGET
    assert counts["original"] == sum(parameter.numel() for parameter in trained.parameters())
    assert {row["name"]: row["compressed"] for row in counts["layers"]} == {
        name: stored[f"{name}.weight.gates"] for name in ENCODED
    }


def test_bytes_and_digests_are_those_of_the_downloads(api: httpx.Client, job: dict[str, Any], checkpoint: Path) -> None:
    assert job["report"]["bytes"]["checkpoint"] == checkpoint.stat().st_size
    for row in job["artifacts"]:
        content = artifact(api, job["id"], row["name"])
        assert row["bytes"] == len(content)
        assert row["sha256"] == hashlib.sha256(content).hexdigest()
    names = {row["name"] for row in job["artifacts"]}
    made = {"model.adtn.safetensors", "adtn_loader.py", "model.dense.safetensors"}
    assert names == made | {"report.json", "recipe.json", "README.md", "SHA256SUMS"}
    assert json.loads(artifact(api, job["id"], "report.json")) == job["report"]


def test_stages_happen_in_order(api: httpx.Client, job: dict[str, Any]) -> None:
    events = api.get(f"/v1/jobs/{job['id']}/events", params={"limit": 100}).json()["data"]
    stages = [event["data"]["stage"] for event in events if event["type"] == "job.stage"]
    assert stages == ["inspect", "plan", "fit", "fine_tune", "evaluate", "export", "verify"]


def test_same_settings_and_seed_give_the_same_bytes(
    api: httpx.Client, job: dict[str, Any], settings: dict[str, Any]
) -> None:
    again = succeeded(api, create(api, **settings)["id"])
    first, second = ({row["name"]: row["sha256"] for row in each["artifacts"]} for each in (job, again))
    for name in ("model.adtn.safetensors", "model.dense.safetensors"):
        assert first[name] == second[name]
    assert again["report"]["fingerprint"] == job["report"]["fingerprint"]


def test_recipe_submitted_again_is_accepted_as_it_is(
    api: httpx.Client, job: dict[str, Any], settings: dict[str, Any]
) -> None:
    recipe = json.loads(artifact(api, job["id"], "recipe.json"))
    assert api.post("/v1/jobs/estimate", json=recipe).status_code == 200
