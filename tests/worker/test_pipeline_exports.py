"""Every export of a job: written, opened as its user opens it, small, and as good as the report says."""

import hashlib
import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from safetensors.torch import load_file, save_file
from support.digits import DigitsLeNet, accuracy
from support.worker_jobs import add_file, artifact, artifacts, run_once

import adtn
from adtn import standalone
from jobs.schemas.settings import JobSettings
from worker.datasets import load
from worker.pipeline import export
from worker.resources import Resources

ALL = ["adtn", "dense", "dense_pt", "onnx", "pt2"]
KIB = 1024


def test_every_export_is_what_the_report_says(
    resources: Resources, checkpoint_id: str, checkpoint_file: Path, tmp_path: Path
) -> None:
    compression = {"layers": ["conv2", "fc1", "fc2"], "structure": {"depth": 1}, "gate_bits": 4}
    settings = {"architecture": "lenet5", "dataset": "digits", "compression": compression, "exports": ALL}
    training = {"fit": {"steps": 5}, "fine_tune": {"epochs": 2}}
    job = run_once(resources, {"checkpoint": checkpoint_id, "name": "<b>a|b</b>", **settings, **training})
    assert job.status == "succeeded", job.error
    folder = artifacts(resources, job.id, tmp_path)
    reported = job.report["accuracy"]["final"]
    assert job.report["verified"]["artifacts"] == sorted([*ALL, "loader"])

    data, model = load("digits"), DigitsLeNet().eval()
    dense = load_file(folder / "model.dense.safetensors")
    pickled = torch.load(folder / "model.dense.pt", weights_only=True)
    assert pickled.keys() == dense.keys() == DigitsLeNet().state_dict().keys()
    assert all(torch.equal(pickled[key], tensor) for key, tensor in dense.items())
    alone = standalone.decode(folder / "model.adtn.safetensors")
    for state in (dense, alone):
        model.load_state_dict(state)
        assert accuracy(model, data.test_x, data.test_y) == pytest.approx(reported, abs=0.001)
    answers = model(data.test_x).argmax(1).tolist()
    model.load_state_dict(load_file(checkpoint_file))
    rows = list(zip(model(data.test_x).argmax(1).tolist(), answers, data.test_y.tolist(), strict=True))
    change = job.report["accuracy"]["change"]
    assert change["lost"] == sum(before == label != after for before, after, label in rows)
    assert change["won"] == sum(before != label == after for before, after, label in rows)
    session = onnxruntime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
    (scores,) = session.run(["output"], {"input": data.test_x.numpy()})
    found = float((np.asarray(scores).argmax(1) == data.test_y.numpy()).mean())
    assert found == pytest.approx(reported, abs=0.001)
    program = torch.export.load(folder / "model.pt2").module()
    found = float((program(data.test_x).argmax(1) == data.test_y).double().mean())
    assert found == pytest.approx(reported, abs=0.001)

    stored = sum(tensor.nbytes for tensor in load_file(folder / "model.adtn.safetensors").values())
    assert (folder / "model.onnx").stat().st_size <= 2 * stored + 64 * KIB
    subprocess.run(["sha256sum", "--check", "--strict", "--quiet", "SHA256SUMS"], cwd=folder, check=True, timeout=60)
    listed = {line.split("  ")[1] for line in (folder / "SHA256SUMS").read_text().splitlines()}
    assert listed == {path.name for path in folder.iterdir()} - {"SHA256SUMS"}
    assert_has_the_numbers((folder / "README.md").read_text(), job.report)


def assert_has_the_numbers(card: str, report: dict[str, Any]) -> None:
    """The card says what the report says, and takes no markup from the job's name."""
    assert card.startswith("# \\<b\\>a\\|b\\</b\\>\n")
    assert f"**compressed** | {100 * report['accuracy']['final']:.2f} %" in card
    change = report["accuracy"]["change"]
    assert f"lost {change['lost']:,} right answers of the original and won {change['won']:,}, " in card
    low, high = change["interval"]
    assert f"a change of {change['points']:+.2f} points, 95 % interval {low:+.2f} to {high:+.2f}." in card
    for row in report["parameters"]["layers"]:
        assert f"| {row['name']} | {' x '.join(map(str, row['shape']))} | {row['original']:,} |" in card
    for name, size in report["bytes"]["artifacts"].items():
        assert name == "adtn_loader.py" or f"`{name}`, {size:,} bytes" in card
    for warning in report["warnings"]:
        assert warning["detail"][1:] in card


@pytest.mark.usefixtures("unverified")
def test_the_recipe_is_a_request_for_the_same_job(
    resources: Resources, checkpoint_id: str, checkpoint_file: Path, tmp_path: Path
) -> None:
    settings = {"checkpoint": checkpoint_id, "compression": {"layers": ["fc1"]}, "fit": {"steps": 3}, "seed": 5}
    job = run_once(resources, settings)
    recipe = json.loads(artifact(resources, job.id, "recipe", tmp_path).read_text())
    uploaded = hashlib.sha256(checkpoint_file.read_bytes()).hexdigest()
    assert recipe["made_with"]["sha256"] == {"checkpoint": uploaded}
    assert recipe["made_with"]["versions"]["torch"] == torch.__version__
    assert JobSettings.model_validate(recipe).model_dump() == JobSettings.model_validate(settings).model_dump()
    again = run_once(resources, recipe | {"checkpoint": add_file(resources, checkpoint_file, "checkpoint")})
    assert again.report["fingerprint"] == job.report["fingerprint"]
    first = artifact(resources, job.id, "adtn", tmp_path).read_bytes()
    assert artifact(resources, again.id, "adtn", tmp_path).read_bytes() == first


def test_without_data_outputs_are_compared_in_float32(resources: Resources, tmp_path: Path) -> None:
    torch.manual_seed(0)
    state = {key: tensor.bfloat16() for key, tensor in DigitsLeNet().state_dict().items()}
    save_file(state, tmp_path / "c.safetensors")
    file_id = add_file(resources, tmp_path / "c.safetensors", "checkpoint")
    settings = {"architecture": "lenet5", "compression": {"layers": ["fc1"], "structure": {"depth": 1}}}
    job = run_once(resources, {"checkpoint": file_id, "fit": {"steps": 3}, "exports": ALL, **settings})
    assert job.status == "succeeded", job.error
    for found in job.report["verified"]["by_artifact"].values():
        assert found["accuracy"] is None
        assert 0 <= found["difference"] < 1e-3


@pytest.mark.usefixtures("unverified")
def test_a_job_that_writes_dense_files_alone_says_that_they_are_not_smaller(
    resources: Resources, checkpoint_id: str
) -> None:
    job = run_once(resources, {"checkpoint": checkpoint_id, "fit": {"steps": 3}, "exports": ["dense"]})
    (warning,) = job.report["warnings"]
    stored = job.report["bytes"]["artifacts"]["model.dense.safetensors"]
    assert warning["code"] == "not_smaller"
    for size in (stored, 4 * job.report["parameters"]["original"]):
        assert f"{size:,}" in warning["detail"]


@pytest.mark.parametrize("exports", [["onnx"], ["adtn", "pt2"]])
def test_weights_alone_make_no_program(resources: Resources, checkpoint_id: str, exports: list[str]) -> None:
    job = run_once(resources, {"checkpoint": checkpoint_id, "exports": exports})
    assert job.status == "failed"
    assert job.error["code"] == "export_impossible"
    assert exports[-1] in job.error["detail"]


def test_a_worker_without_the_packages_names_the_extra(
    resources: Resources, checkpoint_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "ONNX_PACKAGES", ("onnx_that_is_not_there",))
    job = run_once(resources, {"checkpoint": checkpoint_id, "architecture": "lenet5", "exports": ["onnx"]})
    assert job.error["code"] == "export_impossible"
    assert "pip install 'adtn[onnx]'" in job.error["detail"]


def test_ties_are_shared_in_the_file_for_torch(resources: Resources, tmp_path: Path) -> None:
    weight = torch.randn(32, 64)
    torch.save({"words.weight": weight, "head.weight": weight, "head.bias": torch.zeros(32)}, tmp_path / "tied.pt")
    file_id = add_file(resources, tmp_path / "tied.pt", "checkpoint")
    settings: dict[str, Any] = {"checkpoint": file_id, "fit": {"steps": 3}, "exports": ["dense_pt", "adtn"]}
    job = run_once(resources, settings)
    assert job.status == "succeeded", job.error
    state = torch.load(artifact(resources, job.id, "dense_pt", tmp_path), weights_only=True)
    assert state["words.weight"].data_ptr() == state["head.weight"].data_ptr()
    assert state["words.weight"].untyped_storage().nbytes() == weight.nbytes
    decoded = adtn.decode(artifact(resources, job.id, "adtn", tmp_path))
    assert all(torch.equal(state[key], tensor) for key, tensor in decoded.items())
