"""A fine-tuning that does harm is undone, as samples tell that are no test samples."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from support.digits import trained_lenet
from support.worker_jobs import add_file, artifact, run_once
from torch import Tensor, nn

from adtn import FineTuned
from worker import datasets, evaluation
from worker.pipeline import tune
from worker.resources import Resources

WISH: dict[str, Any] = {
    **{"architecture": "lenet5", "dataset": "digits", "fit": {"steps": 50}, "exports": ["dense"]},
    "fine_tune": {"epochs": 2, "batch_size": 64},
    "compression": {"layers": ["fc2"], "structure": {"depth": 4}},
}
pytestmark = pytest.mark.usefixtures("unverified")


@pytest.fixture(scope="module")
def trained_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint that knows the digits."""
    path = tmp_path_factory.mktemp("trained") / "trained.safetensors"
    save_file(trained_lenet(datasets.load("digits")).state_dict(), path)
    return path


@pytest.fixture
def trained_id(resources: Resources, trained_file: Path) -> str:
    return add_file(resources, trained_file, "checkpoint")


def ruin(model: nn.Module, *_: object) -> FineTuned:
    """As a rate does that is far too high."""
    for parameter in model.parameters():
        nn.init.zeros_(parameter)
    return FineTuned(samples=64, seconds=1.0, first_loss=1.0, last_loss=2.3)


def run(resources: Resources, checkpoint_id: str, **settings: Any) -> Any:
    job = run_once(resources, {"checkpoint": checkpoint_id, **WISH, **settings})
    assert job.status == "succeeded", job.error
    return job


def codes(job: Any) -> set[str]:
    return {warning["code"] for warning in job.report["warnings"]}


def test_a_training_that_ruins_the_model_is_undone(
    resources: Resources, trained_id: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    as_fitted = run(resources, trained_id, fine_tune={"epochs": 0})
    monkeypatch.setattr(tune, "fine_tune", ruin)
    ruined = run(resources, trained_id)
    first, second = (artifact(resources, job.id, "dense", tmp_path).read_bytes() for job in (as_fitted, ruined))
    assert first == second
    accuracy = ruined.report["accuracy"]
    assert accuracy["final"] == accuracy["after_fit"] == as_fitted.report["accuracy"]["final"] > 0.2
    assert codes(ruined) & {"tuning_undone", "tuning_worse"} == {"tuning_undone"}
    (told,) = [warning for warning in ruined.report["warnings"] if warning["code"] == "tuning_undone"]
    assert "of 1,437 training samples" in told["detail"]
    assert ruined.report["fine_tuning"]["samples"] == 64  # it was done all the same


def test_a_training_that_helps_is_kept(resources: Resources, trained_id: str) -> None:
    job = run(resources, trained_id)
    assert job.report["accuracy"]["final"] > job.report["accuracy"]["after_fit"]
    assert not codes(job) & {"tuning_undone", "tuning_worse"}


def test_gates_in_few_bits_are_those_of_the_training(
    resources: Resources, trained_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tune, "fine_tune", ruin)
    job = run(resources, trained_id, compression={**WISH["compression"], "gate_bits": 6})
    assert "tuning_undone" not in codes(job)
    assert job.report["accuracy"]["final"] < 0.2


def test_a_validation_split_judges_where_there_is_one(
    resources: Resources, trained_id: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    digits = datasets.load("digits")
    splits = {
        split: (x[:count], y[:count])
        for split, (x, y), count in [
            ("train", (digits.train_x, digits.train_y), 200),
            ("val", (digits.train_x[200:], digits.train_y[200:]), 90),
            ("test", (digits.test_x, digits.test_y), 100),
        ]
    }
    tensors = {
        f"{split}_{name}": part for split, parts in splits.items() for name, part in zip("xy", parts, strict=True)
    }
    save_file(tensors, tmp_path / "data.safetensors")
    seen: list[Tensor] = []
    right = tune.right_of
    monkeypatch.setattr(tune, "right_of", lambda *given: seen.append(given[1]) or right(*given))
    monkeypatch.setattr(tune, "fine_tune", ruin)
    job = run(resources, trained_id, dataset=add_file(resources, tmp_path / "data.safetensors", "dataset"))
    assert [torch.equal(samples, splits["val"][0]) for samples in seen] == [True, True]
    assert job.report["dataset"]["samples"] == {"train": 200, "val": 90, "test": 100}
    (told,) = [warning for warning in job.report["warnings"] if warning["code"] == "tuning_undone"]
    assert "of 90 validation samples" in told["detail"]


@pytest.mark.parametrize(
    ("lost", "won", "undone"),
    [(0, 0, False), (5, 4, False), (25, 5, False), (34, 6, False), (35, 6, True), (60, 0, True), (0, 60, False)],
)
def test_of_training_samples_more_than_two_points_have_to_be_lost(
    resources: Resources, trained_id: str, monkeypatch: pytest.MonkeyPatch, lost: int, won: int, undone: bool
) -> None:
    """A fitted model may know them by heart, as the original does."""
    before = torch.arange(1437) >= 100
    after = (before & (torch.arange(1437) >= 100 + lost)) | (torch.arange(1437) < won)
    told = iter([before, after])
    monkeypatch.setattr(tune, "right_of", lambda *_: next(told))
    monkeypatch.setattr(tune, "fine_tune", lambda *_: FineTuned())
    assert ("tuning_undone" in codes(run(resources, trained_id))) is undone


def test_of_many_samples_some_are_drawn_whatever_their_order(monkeypatch: pytest.MonkeyPatch) -> None:
    few = torch.rand(10, 2), torch.arange(10)
    monkeypatch.setattr(evaluation, "JUDGING", 10)
    assert evaluation.drawn(*few, 0) == few
    samples, labels = torch.rand(40, 3, 2), torch.arange(40)
    found, theirs = evaluation.drawn(samples, labels, 0)
    assert len(found) == len(set(theirs.tolist())) == 10
    assert 0 < int((theirs % 2).sum()) < 10  # a step from one to the next would find either kind alone
    part = found[4:7]
    assert torch.equal(part, samples[theirs[4:7]])
    assert part.view(9, 2).shape == (9, 2)  # networks may ask for it
    assert torch.equal(evaluation.drawn(samples, labels, 0)[1], theirs)
    assert not torch.equal(evaluation.drawn(samples, labels, 1)[1], theirs)
