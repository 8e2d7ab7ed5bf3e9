"""Jobs that train the original further before they compress and imitate it."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from support.digits import DigitsLeNet, trained_lenet
from support.worker_jobs import add_file, artifact, run_once
from torch import Tensor, nn

import adtn
from adtn import FineTuned
from jobs import files, records
from jobs.problems import ProblemError
from jobs.records import JobRecord
from jobs.schemas.report import Report
from jobs.schemas.settings import JobSettings
from service.estimates import estimate
from service.planning import plans_for
from worker import datasets
from worker.lease_keeper import ShuttingDown
from worker.pipeline import correct, trials
from worker.pipeline.attempt import Attempt
from worker.pipeline.heldout import parts_of
from worker.pipeline.progress import ProgressReporter, shares_of
from worker.pipeline.run import Outcome, run_pipeline
from worker.resources import Resources
from worker.weights import restore

WISH = {
    "architecture": "lenet5",
    "dataset": "digits",
    "compression": {"layers": ["fc1", "fc2"], "structure": {"depth": 1}},
    "fit": {"steps": 5},
}
SEARCH = {"layers": ["fc1", "fc2"], "target": {"max_accuracy_drop": 100.0}}

pytestmark = pytest.mark.usefixtures("unverified")


@pytest.fixture
def make_job(resources: Resources, checkpoint_id: str) -> Callable[..., JobRecord]:
    def make(**settings: Any) -> JobRecord:
        whole = JobSettings.model_validate({"checkpoint": checkpoint_id, **WISH, **settings})
        with resources.db.begin() as session:
            row = records.create(session, owner="local", settings=whole, max_attempts=3)
        return records.load_for_worker(resources.db, row.id)

    return make


@pytest.fixture
def run(resources: Resources, tmp_path: Path) -> Callable[..., Outcome]:
    def run_job(job: JobRecord, progress: ProgressReporter | None = None) -> Outcome:
        folder = tmp_path / f"attempt-{len(list(tmp_path.iterdir()))}"
        folder.mkdir()
        quiet = ProgressReporter(lambda progress, kind: None, lambda: None)
        return run_pipeline(job, resources.store, folder, progress or quiet)

    return run_job


@pytest.fixture
def trained_on(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Tensor, Tensor]]:
    """What originals are trained on from now on."""
    seen: list[tuple[Tensor, Tensor]] = []
    fine_tune = correct.fine_tune

    def watched(model: nn.Module, samples: tuple[Tensor, Tensor], *others: Any) -> FineTuned:
        seen.append(samples)
        return fine_tune(model, samples, *others)

    monkeypatch.setattr(correct, "fine_tune", watched)
    return seen


def kept_of(resources: Resources, job_id: str) -> list[Path]:
    """What is kept of originals for another attempt."""
    return list((resources.settings.data_dir / "objects" / records.folder(job_id) / "teacher").glob("*"))


def original() -> DigitsLeNet:
    """What `checkpoint_id` holds."""
    torch.manual_seed(0)
    return DigitsLeNet().eval()


def trained_further(epochs: int, batch_size: int) -> DigitsLeNet:
    """The original, as a user would train it with the library."""
    model, data = original(), datasets.load("digits")
    adtn.fine_tune(model, data.train_x, data.train_y, adtn.FineTuneOptions(epochs=epochs, batch_size=batch_size))
    return model.eval()


@torch.no_grad()
def share_right(model: nn.Module) -> float:
    """Of the test samples, those that a model answers rightly."""
    data = datasets.load("digits")
    return float((model(data.test_x).argmax(1) == data.test_y).double().mean())


def test_what_is_compressed_is_the_original_trained_further(
    resources: Resources, checkpoint_id: str, tmp_path: Path
) -> None:
    wish = {"epochs": 0, "teacher_epochs": 5, "batch_size": 64}
    job = run_once(resources, {"checkpoint": checkpoint_id, **WISH, "fine_tune": wish})
    assert job.status == "succeeded", job.error
    assert kept_of(resources, job.id) == []  # once the job has ended
    found = load_file(artifact(resources, job.id, "dense", tmp_path))
    expected = trained_further(5, 64)
    for name in ("conv1.weight", "conv2.bias", "fc3.weight"):  # what stays dense, and nothing else is trained
        torch.testing.assert_close(found[name], expected.state_dict()[name])
    report = Report.model_validate(job.report)
    assert report.accuracy is not None
    assert report.accuracy.baseline == share_right(original()) < 0.2
    assert report.accuracy.teacher == pytest.approx(share_right(expected), abs=0.01)
    assert report.accuracy.teacher > report.accuracy.baseline + 0.5
    assert report.accuracy.interval_95 is not None
    low, high = report.accuracy.interval_95["teacher"]
    assert low < report.accuracy.teacher < high
    assert report.seconds["teacher"] > 0
    card = artifact(resources, job.id, "card", tmp_path).read_text()
    assert f"| original, trained further | {100 * report.accuracy.teacher:.2f} % |" in card


def test_without_such_epochs_there_is_no_such_accuracy(
    resources: Resources, checkpoint_id: str, tmp_path: Path, trained_on: list[tuple[Tensor, Tensor]]
) -> None:
    job = run_once(resources, {"checkpoint": checkpoint_id, **WISH, "fine_tune": {"epochs": 1}})
    assert job.status == "succeeded", job.error
    assert trained_on == []
    assert job.report["accuracy"]["teacher"] is None
    assert "teacher" not in job.report["accuracy"]["interval_95"]
    assert "teacher" not in job.report["seconds"]
    assert "trained further" not in artifact(resources, job.id, "card", tmp_path).read_text()


def test_what_it_has_become_is_imitated(
    make_job: Callable[..., JobRecord], run: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    teachers: list[nn.Module | None] = []

    def watched(
        _model: nn.Module, _samples: object, _settings: object, teacher: nn.Module | None, *_: object
    ) -> FineTuned:
        teachers.append(teacher)
        return FineTuned()

    monkeypatch.setattr("worker.pipeline.tune.fine_tune", watched)
    run(make_job(fine_tune={"epochs": 1, "teacher_epochs": 3, "batch_size": 64}))
    (teacher,) = teachers
    assert teacher is not None
    for name, expected in trained_further(3, 64).state_dict().items():
        torch.testing.assert_close(teacher.state_dict()[name], expected)


def test_a_search_holds_its_samples_out_of_this_training_too(
    make_job: Callable[..., JobRecord], run: Callable[..., Outcome], trained_on: list[tuple[Tensor, Tensor]]
) -> None:
    wish = {"epochs": 1, "teacher_epochs": 3, "batch_size": 64}
    report = run(make_job(compression=SEARCH, fine_tune=wish, search={"max_trials": 1})).report
    ((inputs, labels),) = trained_on
    held = parts_of(datasets.load("digits"), 0)
    assert len(inputs) == len(labels) == 1437 - 287
    seen = {sample.numpy().tobytes() for sample in inputs}
    assert len([sample for sample in held.heldout_x if sample.numpy().tobytes() in seen]) == 0
    # Trials are compared with the upload, which has learned nothing.
    assert report["search"]["baseline_heldout_accuracy"] < 0.2 < report["search"]["trials"][0]["heldout_accuracy"]


def test_of_samples_that_it_forgets_nothing_is_promised(
    make_job: Callable[..., JobRecord], run: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    # The upload, what was trained further on held-out samples and on others, the fit twice.
    told = iter([1.0, 0.9, 1.0, 0.8, 0.88])
    monkeypatch.setattr(trials, "top1", lambda *_: next(told))
    wish = {"epochs": 0, "teacher_epochs": 1}
    compression = {**SEARCH, "target": {"max_accuracy_drop": 5.0}}
    report = run(make_job(compression=compression, fine_tune=wish, search={"max_trials": 1})).report
    assert report["search"]["control_heldout_accuracy"] == 0.9
    assert report["search"]["trials"][0]["drop"] == pytest.approx(2.0)


def test_a_second_attempt_does_not_train_it_again(
    resources: Resources,
    make_job: Callable[..., JobRecord],
    run: Callable[..., Outcome],
    trained_on: list[tuple[Tensor, Tensor]],
) -> None:
    wish = {"epochs": 1, "teacher_epochs": 3, "batch_size": 64}
    whole, job, told = run(make_job(fine_tune=wish)), make_job(fine_tune=wish), list[str]()

    def check() -> None:
        if told and told[-1].startswith("fitting"):
            raise ShuttingDown

    with pytest.raises(ShuttingDown):
        run(job, ProgressReporter(lambda progress, kind: told.append(progress.message), check, interval_s=0))
    assert len(trained_on) == 2
    assert len(kept_of(resources, job.id)) == 1
    again = run(job)
    assert len(trained_on) == 2
    digests = [
        [item.sha256 for item in outcome.artifacts if item.kind in ("adtn", "dense")] for outcome in (again, whole)
    ]
    assert digests[0] == digests[1]
    assert again.report["accuracy"] == whole.report["accuracy"]


def test_what_is_kept_goes_however_the_job_ends(
    resources: Resources, checkpoint_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []

    def fail(_model: nn.Module, _plan: object, _moments: object, attempt: Attempt, *_: object) -> None:
        seen.append(len(kept_of(resources, attempt.job.id)))
        raise ProblemError("dataset_invalid", "a problem of after the training")

    monkeypatch.setattr("worker.pipeline.run.encode", fail)
    job = run_once(resources, {"checkpoint": checkpoint_id, **WISH, "fine_tune": {"epochs": 1, "teacher_epochs": 1}})
    assert (job.status, seen) == ("failed", [1])
    assert kept_of(resources, job.id) == []


def test_a_model_gets_its_tensors_back_without_counters_that_it_never_had() -> None:
    torch.manual_seed(0)
    one, other = (nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2)) for _ in range(2))
    for model in (one, other):
        model[1].num_batches_tracked = None  # as in checkpoints of old
    restore(other, {key: tensor.clone() for key, tensor in one.state_dict().items()})
    inputs = torch.randn(2, 1, 5, 5)
    torch.testing.assert_close(other.eval()(inputs), one.eval()(inputs))


@pytest.mark.parametrize(
    ("wish", "code"),
    [
        ({"compression": {"layers": ["fc2"], "structure": {"depth": 1}}}, "natural_epochs_impossible"),
        ({"compression": {"layers": ["conv1", "conv2"], "target": {"parameters": 500}}}, "natural_epochs_impossible"),
        ({"compression": {"layers": ["fc1", "fc2"], "target": {"parameters": 9000}}}, "natural_epochs_impossible"),
        ({"compression": {"layers": ["fc1"], "target": {"parameters": 1}}}, "target_unreachable"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_trained(
    resources: Resources, checkpoint_id: str, trained_on: list[tuple[Tensor, Tensor]], wish: dict[str, Any], code: str
) -> None:
    fine_tune = {"epochs": 2, "natural_epochs": 1, "teacher_epochs": 1}
    job = run_once(resources, {"checkpoint": checkpoint_id, **WISH, **wish, "fine_tune": fine_tune})
    assert job.status == "failed"
    assert job.error["code"] == code
    assert trained_on == []


def test_a_loss_that_rises_ends_the_job(
    resources: Resources, checkpoint_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = iter([0.9, 0.87])
    monkeypatch.setattr(correct, "top1", lambda *_: next(told))
    monkeypatch.setattr(correct, "fine_tune", lambda *_: FineTuned(first_loss=1.0, last_loss=2.0))
    job = run_once(resources, {"checkpoint": checkpoint_id, **WISH, "fine_tune": {"epochs": 1, "teacher_epochs": 1}})
    assert job.error["code"] == "training_diverged"
    assert "the loss of the original rose from 1 to 2; it is right on 87.00% of the" in job.error["detail"]


def test_an_original_that_knows_its_few_samples_by_heart_may_be_trained_further(
    make_job: Callable[..., JobRecord], run: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its loss is near 0 and can only rise."""
    told = iter([1.0, 0.99])
    monkeypatch.setattr(correct, "top1", lambda *_: next(told))
    monkeypatch.setattr(correct, "fine_tune", lambda *_: FineTuned(first_loss=0.001, last_loss=0.01))
    report = run(make_job(fine_tune={"epochs": 1, "teacher_epochs": 1, "batch_size": 64})).report
    assert report["accuracy"]["teacher"] == report["accuracy"]["baseline"]


def test_an_original_for_samples_of_nearly_one_class_is_not_ruined_by_a_little(
    make_job: Callable[..., JobRecord], run: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is right on little more than the commonest class from the start."""
    told = iter([0.973, 0.969])
    monkeypatch.setattr(correct, "top1", lambda *_: next(told))
    monkeypatch.setattr(correct, "share_of_commonest", lambda *_: 0.97)
    monkeypatch.setattr(correct, "fine_tune", lambda *_: FineTuned(first_loss=0.2, last_loss=0.1))
    report = run(make_job(fine_tune={"epochs": 1, "teacher_epochs": 1, "batch_size": 64})).report
    assert report["accuracy"]["teacher"] == report["accuracy"]["baseline"]


def test_a_rate_that_ruins_it_ends_the_job_before_anything_is_fitted(resources: Resources, tmp_path: Path) -> None:
    path = tmp_path / "trained.safetensors"
    save_file(trained_lenet(datasets.load("digits")).state_dict(), path)
    wish = {"epochs": 1, "teacher_epochs": 2, "batch_size": 64, "learning_rate": 50.0}
    job = run_once(resources, {"checkpoint": add_file(resources, path, "checkpoint"), **WISH, "fine_tune": wish})
    assert (job.status, job.stage) == ("failed", "plan")
    assert job.error is not None
    assert job.error["code"] == "training_diverged"
    assert re.search(r"right on [\d.]+% of the training samples, and was on 9[\d.]+%", job.error["detail"])


def test_its_progress_is_a_part_of_the_plan(make_job: Callable[..., JobRecord], run: Callable[..., Outcome]) -> None:
    sent: list[Any] = []
    job = make_job(compression=SEARCH, fine_tune={"epochs": 1, "teacher_epochs": 2}, search={"max_trials": 1})
    shares = shares_of(job.settings)
    assert sum(shares.values()) == pytest.approx(1)
    assert shares["plan"] > shares_of(make_job(compression=SEARCH, fine_tune={"epochs": 1}).settings)["plan"]
    run(job, ProgressReporter(lambda p, kind: sent.append(p), lambda: None, shares=shares, interval_s=0))
    fractions = [progress.fraction for progress in sent]
    assert fractions == sorted(fractions)
    first = [progress.message for progress in sent if progress.stage == "plan"]
    assert first[0] == "training the original further"
    assert any(message.startswith("the original: fine-tuning, loss ") for message in first)
    assert "choosing structures" in first


def test_an_estimate_knows_of_it(resources: Resources, checkpoint_id: str) -> None:
    checkpoint = files.get(resources.db, "local", checkpoint_id)

    def estimated(teacher_epochs: int, **others: Any) -> Any:
        wish = {"epochs": 1, "teacher_epochs": teacher_epochs, "batch_size": 64}
        whole = JobSettings.model_validate({"checkpoint": checkpoint_id, **WISH, "fine_tune": wish, **others})
        return estimate(whole, plans_for(whole.compression, checkpoint), checkpoint, None)

    seconds = [estimated(epochs).seconds for epochs in (0, 500, 1000)]
    assert seconds == sorted(set(seconds))
    # It is evaluated at the end.
    assert estimated(1).memory_bytes - estimated(0).memory_bytes == 4 * checkpoint.parameters
    # Once, however many trials there are.
    searched = {"compression": SEARCH, "search": {"max_trials": 3, "max_minutes": 600}}
    trial, both = (estimated(epochs, **searched).search for epochs in (0, 500))
    assert trial == both


def test_an_estimate_knows_of_the_original_that_trials_are_compared_with(
    resources: Resources, checkpoint_id: str
) -> None:
    checkpoint = files.get(resources.db, "local", checkpoint_id)

    def estimated(**fine_tune: Any) -> Any:
        search = {"max_trials": 1, "max_minutes": 600}
        body = {"checkpoint": checkpoint_id, **WISH, "compression": SEARCH, "search": search, "fine_tune": fine_tune}
        whole = JobSettings.model_validate(body)
        return estimate(whole, plans_for(whole.compression, checkpoint), checkpoint, None)

    few, many = (estimated(epochs=epochs, batch_size=64) for epochs in (100, 1000))
    more = many.search.seconds_a_trial - few.search.seconds_a_trial
    assert many.seconds - few.seconds > 2.2 * more  # of the trial, of the chosen size, and of the original
    frozen_few, frozen_many = (estimated(epochs=epochs, batch_size=64, dense="freeze") for epochs in (100, 1000))
    more = frozen_many.search.seconds_a_trial - frozen_few.search.seconds_a_trial
    assert frozen_many.seconds - frozen_few.seconds == pytest.approx(2 * more, abs=2)  # no original is trained


def test_without_data_there_is_nothing_to_train_it_on(
    make_job: Callable[..., JobRecord], run: Callable[..., Outcome], trained_on: list[tuple[Tensor, Tensor]]
) -> None:
    job = make_job(architecture=None, dataset=None, fine_tune={"teacher_epochs": 2})
    assert run(job).report["accuracy"] is None
    assert trained_on == []
