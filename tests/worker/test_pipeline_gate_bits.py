"""A job whose gates are stored in few bits: trained so, or rounded after the fit; exported, verified and reported."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from support.digits import DigitsLeNet, accuracy
from support.worker_jobs import add_file, artifact, run_once
from torch import Tensor

import adtn
from worker.datasets import load
from worker.resources import Resources

LAYERS = ["fc1", "fc2"]


def run(resources: Resources, checkpoint_id: str, **settings: Any) -> tuple[dict[str, Any], str]:
    """Run a job to its end; its report and its id."""
    wish = {"checkpoint": checkpoint_id, "fit": {"steps": 5}, **settings}
    job = run_once(resources, wish)
    assert job.status == "succeeded", job.error
    assert job.report is not None
    return job.report, job.id


def assert_reported_as_stored(report: dict[str, Any], path: Path) -> None:
    """Bits, bytes and counts of the report are those of the file."""
    with safe_open(path, "pt") as file:
        header = json.loads(file.metadata()["adtn"])
        sizes = {key: file.get_tensor(f"{key}.gates").nbytes for key in header["encoded"]}
    assert header["version"] == 2
    rows = {f"{row['name']}.weight": row for row in report["parameters"]["layers"]}
    assert {key: row["bytes"] for key, row in rows.items()} == sizes
    assert {row["bits"] for row in rows.values()} == {item["bits"] for item in header["encoded"].values()} == {4}
    for row in rows.values():
        assert row["bytes"] <= row["compressed"] / 2 + 4
    dense = sum(4 * row["original"] for row in rows.values())
    assert report["bytes"]["encoded"]["original"] == dense
    assert report["bytes"]["encoded"]["compressed"] == sum(sizes.values())


def test_job_trains_exports_and_verifies_gates_of_four_bits(
    resources: Resources, checkpoint_id: str, tmp_path: Path
) -> None:
    compression = {"layers": LAYERS, "structure": {"depth": 1}, "gate_bits": 4}
    settings = {"architecture": "lenet5", "dataset": "digits", "compression": compression, "fine_tune": {"epochs": 2}}
    report, job_id = run(resources, checkpoint_id, **settings)
    path = artifact(resources, job_id, "adtn", tmp_path)
    assert_reported_as_stored(report, path)
    assert report["verified"]["fresh_process"]
    assert report["settings"]["compression"]["gate_bits"] == 4
    decoded, dense = adtn.decode(path), load_file(artifact(resources, job_id, "dense", tmp_path))
    assert all(torch.equal(decoded[key], tensor) for key, tensor in dense.items())
    model = adtn.load(path, DigitsLeNet()).eval()
    data = load("digits")
    assert accuracy(model, data.test_x, data.test_y) == report["accuracy"]["final"]


@pytest.mark.usefixtures("unverified")
@pytest.mark.parametrize("data", [{}, {"architecture": "lenet5", "dataset": "digits", "fine_tune": {"epochs": 0}}])
def test_without_training_the_fit_is_rounded_and_the_error_is_that_of_the_rounded_weight(
    resources: Resources, checkpoint_id: str, tmp_path: Path, data: dict[str, Any]
) -> None:
    compression = {"layers": LAYERS, "structure": {"depth": 1}}
    exact, _ = run(resources, checkpoint_id, compression=compression, **data)
    report, job_id = run(resources, checkpoint_id, compression=compression | {"gate_bits": 4}, **data)
    path = artifact(resources, job_id, "adtn", tmp_path)
    assert_reported_as_stored(report, path)
    decoded = adtn.decode(path)
    torch.manual_seed(0)
    original: dict[str, Tensor] = DigitsLeNet().state_dict()
    errors = {row["name"]: row["relative_error"] for row in report["parameters"]["layers"]}
    for name, error in errors.items():
        weight = original[f"{name}.weight"]
        assert float((decoded[f"{name}.weight"] - weight).norm() / weight.norm()) == pytest.approx(error, abs=2e-6)
    assert errors != {row["name"]: row["relative_error"] for row in exact["parameters"]["layers"]}


@pytest.mark.parametrize(("dtype", "bits"), [(torch.float64, None), (torch.float64, 4), (torch.float16, 4)])
def test_checkpoints_of_other_dtypes_are_stored_as_they_are_decoded(
    resources: Resources,
    tmp_path: Path,
    dtype: torch.dtype,
    bits: int | None,
) -> None:
    torch.manual_seed(0)
    save_file({key: tensor.to(dtype) for key, tensor in DigitsLeNet().state_dict().items()}, tmp_path / "c.safetensors")
    file_id = add_file(resources, tmp_path / "c.safetensors", "checkpoint")
    compression = {"layers": ["fc1"], "structure": {"depth": 1}, "gate_bits": bits}
    settings = {"architecture": "lenet5", "dataset": "digits", "compression": compression, "fine_tune": {"epochs": 1}}
    report, job_id = run(resources, file_id, **settings)
    decoded = adtn.decode(artifact(resources, job_id, "adtn", tmp_path))
    assert decoded["fc1.weight"].dtype == dtype
    assert report["verified"]["fresh_process"]


@pytest.mark.usefixtures("unverified")
def test_without_bits_gates_are_floats(resources: Resources, checkpoint_id: str) -> None:
    report, _ = run(resources, checkpoint_id, compression={"layers": LAYERS})
    for row in report["parameters"]["layers"]:
        assert (row["bits"], row["bytes"]) == (None, 4 * row["compressed"])
