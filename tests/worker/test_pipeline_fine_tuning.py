"""How a job's settings reach the training, and what the report says of it."""

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from support.digits import DigitsLeNet
from support.worker_jobs import artifact, run_once
from torch import nn

from adtn.errors import NotSampleWise
from jobs import files
from jobs.schemas.report import Report
from jobs.schemas.settings import JobSettings
from service.estimates import estimate
from service.planning import plans_for
from worker.pipeline.options import fine_tune_options, require_natural_epochs
from worker.resources import Resources

WISH = {
    "architecture": "lenet5",
    "dataset": "digits",
    "compression": {"layers": ["fc1", "fc2"], "structure": {"depth": 1}},
    "fit": {"steps": 5},
}


def run(resources: Resources, checkpoint_id: str, folder: Path, **settings: Any) -> tuple[Report, dict[str, Any]]:
    """Run a job to its end; its report and the dense weights."""
    job = run_once(resources, {"checkpoint": checkpoint_id, **WISH, **settings})
    assert job.status == "succeeded", job.error
    return Report.model_validate(job.report), load_file(artifact(resources, job.id, "dense", folder))


@pytest.mark.usefixtures("unverified")
def test_what_stayed_dense_may_stay_as_it_was(resources: Resources, checkpoint_id: str, tmp_path: Path) -> None:
    report, state = run(resources, checkpoint_id, tmp_path, fine_tune={"epochs": 2, "dense": "freeze"})
    torch.manual_seed(0)
    original = DigitsLeNet().state_dict()
    changed = {key for key, tensor in state.items() if not torch.equal(tensor, original[key])}
    # Biases of encoded layers take up a part of the fit's error; training leaves them.
    assert changed == {"fc1.weight", "fc1.bias", "fc2.weight", "fc2.bias"}
    assert report.fine_tuning is not None
    assert report.fine_tuning.samples == 2 * 1437
    assert report.fine_tuning.samples_per_second > 0
    assert report.fine_tuning.preparation_seconds > 0
    assert report.fine_tuning.cached_bytes == 1437 * 64 * 4  # what fc1 takes in
    assert report.fine_tuning.not_cached is None


def test_an_estimate_knows_that_too_much_is_not_kept(
    resources: Resources, checkpoint_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"compression": {"layers": ["fc2"], "structure": {"depth": 1}}, "fine_tune": {"dense": "freeze"}}
    wish = JobSettings.model_validate({"checkpoint": checkpoint_id, **WISH, **settings})
    checkpoint = files.get(resources.db, "local", checkpoint_id)

    def found() -> tuple[int | None, list[str], str]:
        told = estimate(wish, plans_for(wish.compression, checkpoint), checkpoint, None)
        assert told.fine_tuning is not None
        return told.fine_tuning.cached_bytes, told.fine_tuning.kept_layers, told.notes[-1]

    bytes_kept = 1437 * 96 * 4  # what fc2 takes in
    monkeypatch.setattr("service.fine_tuning.MOST_KEPT_BYTES", bytes_kept)
    assert found()[:2] == (bytes_kept, ["conv1", "conv2", "fc1"])
    monkeypatch.setattr("service.fine_tuning.MOST_KEPT_BYTES", bytes_kept - 1)
    assert found()[:2] == (0, [])
    assert "their outputs take more than" in found()[2]


@pytest.mark.usefixtures("unverified")
def test_an_estimate_knows_what_will_be_computed_once(resources: Resources, checkpoint_id: str, tmp_path: Path) -> None:
    settings = {
        "compression": {"layers": ["fc2"], "structure": {"depth": 1}},
        "fine_tune": {"epochs": 1, "dense": "freeze", "precision": "bfloat16"},
    }
    report, _ = run(resources, checkpoint_id, tmp_path, **settings)
    wish = JobSettings.model_validate({"checkpoint": checkpoint_id, **WISH, **settings})
    checkpoint = files.get(resources.db, "local", checkpoint_id)
    found = estimate(wish, plans_for(wish.compression, checkpoint), checkpoint, None).fine_tuning
    assert found is not None
    assert report.fine_tuning is not None
    assert found.cached_bytes == report.fine_tuning.cached_bytes > 0
    assert found.trained_parameters == report.parameters.encoded.compressed


@pytest.mark.usefixtures("unverified")
def test_a_model_that_is_trained_as_a_whole_keeps_nothing(
    resources: Resources, checkpoint_id: str, tmp_path: Path
) -> None:
    report, _ = run(resources, checkpoint_id, tmp_path, fine_tune={"epochs": 1, "accumulate": 4})
    assert report.fine_tuning is not None
    assert (report.fine_tuning.cached_bytes, report.fine_tuning.not_cached) == (0, "no parameter is frozen")


@pytest.mark.usefixtures("unverified")
def test_without_epochs_there_is_no_speed(resources: Resources, checkpoint_id: str, tmp_path: Path) -> None:
    assert run(resources, checkpoint_id, tmp_path, fine_tune={"epochs": 0})[0].fine_tuning is None


def test_half_precision_is_trained_and_full_precision_stored(
    resources: Resources, checkpoint_id: str, tmp_path: Path
) -> None:
    report, state = run(resources, checkpoint_id, tmp_path, fine_tune={"epochs": 1, "precision": "bfloat16"})
    assert {tensor.dtype for tensor in state.values()} == {torch.float32}
    assert report.verified is not None
    assert report.verified["fresh_process"]


def test_the_last_epochs_may_follow_the_natural_gradient(
    resources: Resources, checkpoint_id: str, tmp_path: Path
) -> None:
    reports = {}
    for natural_epochs in (0, 2):
        wish = {"epochs": 3, "dense": "freeze", "natural_epochs": natural_epochs}
        reports[natural_epochs], _ = run(resources, checkpoint_id, tmp_path, fine_tune=wish)
        assert reports[natural_epochs].fine_tuning is not None
    found = [report.accuracy for report in reports.values()]
    assert found[0] is not None
    assert found[1] is not None
    assert found[0].after_fit == found[1].after_fit
    assert found[0].final != found[1].final
    assert reports[2].fine_tuning.samples == 3 * 1437  # type: ignore[union-attr]


def test_natural_epochs_are_refused_before_anything_is_fitted(resources: Resources, checkpoint_id: str) -> None:
    wish = {"checkpoint": checkpoint_id, **WISH, "fine_tune": {"epochs": 2, "natural_epochs": 1}}
    job = run_once(resources, {**wish, "compression": {"layers": ["fc2"], "structure": {"depth": 1}}})
    assert job.status == "failed"
    assert job.error is not None
    assert job.error["code"] == "natural_epochs_impossible"
    assert "expected at most 8,192 trained numbers" in job.error["detail"]
    assert "'dense': 'freeze'" in job.error["detail"]
    assert job.stage == "plan"


def test_a_batch_norm_that_is_trained_is_found_before_anything_is_fitted() -> None:
    model = nn.Sequential(nn.Linear(8, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
    for dense, refused in (("train", True), ("freeze", False)):
        wish = {"epochs": 2, "natural_epochs": 1, "dense": dense}
        settings = JobSettings.model_validate({"checkpoint": "file_" + "0" * 32, "fine_tune": wish})
        with pytest.raises(NotSampleWise, match="the batch norm '1'") if refused else nullcontext():
            require_natural_epochs(settings, model, original=32, stored=12)
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_an_estimate_knows_that_natural_epochs_take_longer(resources: Resources, checkpoint_id: str) -> None:
    checkpoint = files.get(resources.db, "local", checkpoint_id)
    seconds = []
    for natural_epochs in (0, 30, 60):
        wish = {"epochs": 60, "dense": "freeze", "natural_epochs": natural_epochs}
        settings = JobSettings.model_validate({"checkpoint": checkpoint_id, **WISH, "fine_tune": wish})
        seconds.append(estimate(settings, plans_for(settings.compression, checkpoint), checkpoint, None).seconds)
    assert seconds == sorted(set(seconds))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("dense", "freeze"),
        ("accumulate", 3),
        ("precision", "bfloat16"),
        ("schedule", "one_cycle"),
        ("natural_epochs", 2),
    ],
)
def test_each_setting_becomes_an_option(name: str, value: object) -> None:
    settings = JobSettings.model_validate({"checkpoint": "file_" + "0" * 32, "fine_tune": {name: value}})
    assert getattr(fine_tune_options(settings), name) == value
