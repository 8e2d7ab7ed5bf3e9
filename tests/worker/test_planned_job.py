"""Jobs that say what they want and leave the sizes to the planner."""

import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from support.digits import trained_lenet
from support.worker_jobs import add_file, without_verification
from torch import Tensor, nn

from adtn import FineTuned
from adtn.encoding import encoded
from adtn.errors import NotSampleWise, TrainingDiverged
from adtn.fitting import FitTask, fit_each
from adtn.module import ADTN
from adtn.plan import Plan
from jobs import records
from jobs.database import migrate
from jobs.leases import Progress
from jobs.problems import ProblemError
from jobs.queue import make_app
from jobs.records import JobRecord
from jobs.schemas.report import Report
from jobs.schemas.settings import JobSettings
from jobs.settings import Settings
from worker import datasets
from worker.lease_keeper import Cancelled, ShuttingDown
from worker.pipeline import choose, trials
from worker.pipeline import fit as fit_module
from worker.pipeline import kept as kept_module
from worker.pipeline import search as search_module
from worker.pipeline.heldout import Parts
from worker.pipeline.progress import ProgressReporter, shares_of
from worker.pipeline.run import Outcome, run_pipeline
from worker.pipeline.search import OutOfTime
from worker.pipeline.trials import Measured, Trials
from worker.resources import Resources, open_resources

Run = Callable[..., Outcome]


@pytest.fixture(scope="module")
def resources(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Resources]:
    settings = Settings(data_dir=tmp_path_factory.mktemp("data"))
    migrate(settings.database_url)
    opened = open_resources(make_app(settings), settings)
    yield opened
    opened.db.close()


@pytest.fixture(scope="module")
def checkpoint_id(resources: Resources, checkpoint_file: Path) -> str:
    return add_file(resources, checkpoint_file, "checkpoint")


@pytest.fixture(scope="module", autouse=True)
def unverified() -> Iterator[None]:
    """For all tests of this file: verification plays no part in planning."""
    with without_verification():
        yield


@pytest.fixture(scope="module")
def make_job(resources: Resources, checkpoint_id: str) -> Callable[..., JobRecord]:
    def make(**settings: Any) -> JobRecord:
        whole = {
            "checkpoint": checkpoint_id,
            "architecture": "lenet5",
            "dataset": "digits",
            "fit": {"steps": 5},
            "fine_tune": {"epochs": 1, "batch_size": 128},
            "search": {"max_trials": 3},
        } | settings
        with resources.db.begin() as session:
            row = records.create(session, owner="local", settings=JobSettings.model_validate(whole), max_attempts=3)
        return records.load_for_worker(resources.db, row.id)

    return make


@pytest.fixture(scope="module")
def run(resources: Resources, tmp_path_factory: pytest.TempPathFactory) -> Run:
    def run_job(job: JobRecord, progress: ProgressReporter | None = None) -> Outcome:
        folder = tmp_path_factory.mktemp("job")
        quiet = ProgressReporter(lambda progress, kind: None, lambda: None)
        return run_pipeline(job, resources.store, folder, progress or quiet)

    return run_job


@dataclass(frozen=True)
class Searched:
    job: JobRecord
    outcome: Outcome
    progress: list[Progress]


def target(**wish: float) -> dict[str, Any]:
    return {"target": wish}


def test_a_size_is_met_with_what_the_layers_measure(make_job: Callable[..., JobRecord], run: Run) -> None:
    outcome = run(make_job(compression=target(parameters=700)))
    report = outcome.report
    assert report["parameters"]["encoded"]["compressed"] <= 700
    assert report["search"] is None
    measured = report["sensitivity"]
    assert measured["metric"] == "kl_divergence"
    assert measured["samples"] == 287
    assert {layer["name"] for layer in measured["layers"]} == {"fc1", "fc2"}
    assert {row["name"]: bool(row["reason"]) for row in report["parameters"]["skipped"]} == {
        "conv1": True,
        "conv2": True,
        "fc3": True,
    }
    (card,) = [artifact.path.read_text() for artifact in outcome.artifacts if artifact.kind == "card"]
    left = re.findall(r"^Left dense: (.*) \(.+\)\.$", card, re.MULTILINE)
    assert left == ["conv1, conv2, fc3"]  # for one reason
    assert report["bytes"]["tensors"] == 4 * report["parameters"]["original"]
    assert f"The original's tensors had {report['bytes']['tensors']:,} bytes" in card


def test_without_data_the_weights_are_measured(make_job: Callable[..., JobRecord], run: Run) -> None:
    report = run(make_job(dataset=None, architecture=None, compression=target(ratio=20))).report
    assert report["parameters"]["encoded"]["ratio"] >= 20
    assert report["sensitivity"]["metric"] == "squared_relative_error"


def test_without_wishes_the_layers_that_get_smaller_are_encoded(make_job: Callable[..., JobRecord], run: Run) -> None:
    report = run(make_job(dataset=None, architecture=None)).report
    assert [row["name"] for row in report["parameters"]["layers"]] == ["fc1", "fc2"]


def test_a_structure_that_the_user_chose_is_not_measured(make_job: Callable[..., JobRecord], run: Run) -> None:
    fixed = {"structure": {"depth": 1}, **target(parameters=700)}
    report = run(make_job(compression=fixed)).report
    assert report["sensitivity"] is None
    assert {row["structure"]["depth"] for row in report["parameters"]["layers"]} == {1}


@pytest.fixture(scope="module")
def searched(make_job: Callable[..., JobRecord], run: Run) -> Searched:
    """A search in which every size keeps the promise."""
    job, sent = make_job(compression=target(max_accuracy_drop=100.0)), []
    shares = shares_of(job.settings)
    progress = ProgressReporter(lambda p, kind: sent.append(p), lambda: None, shares=shares, interval_s=0)
    return Searched(job, run(job, progress), sent)


def test_the_smallest_model_that_keeps_the_accuracy_is_the_result(searched: Searched) -> None:
    report = Report.model_validate(searched.outcome.report)
    assert report.search is not None
    assert report.search.heldout_samples == 287
    assert 1 <= len(report.search.trials) <= 3
    assert all(trial.kept for trial in report.search.trials)
    smallest = min(report.search.trials, key=lambda trial: trial.parameters)
    assert (report.parameters.compressed, report.parameters.ratio) == (smallest.parameters, smallest.ratio)
    assert report.parameters.encoded.compressed == smallest.encoded_parameters
    assert "pareto.svg" in {artifact.name for artifact in searched.outcome.artifacts}
    for trial in report.search.trials:
        search = report.search
        original = search.control_heldout_accuracy if trial.fine_tuned else search.baseline_heldout_accuracy
        assert original is not None
        assert trial.drop == pytest.approx(100 * (original - trial.heldout_accuracy), abs=1e-3)


def test_a_trained_model_is_compared_with_the_original_trained_likewise(
    make_job: Callable[..., JobRecord], run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An original that knows the held-out samples by heart forgets some as it is trained without them."""
    # The original, and after training on held-out samples and on others; the fit, and after training likewise.
    told = iter([1.0, 0.9, 1.0, 0.2, 0.88])

    def accuracy(_model: nn.Module, *_: object) -> float:
        return next(told)

    monkeypatch.setattr(trials, "top1", accuracy)
    report = run(make_job(compression=target(max_accuracy_drop=5), search={"max_trials": 1})).report
    (trial,) = report["search"]["trials"]
    assert report["search"]["baseline_heldout_accuracy"] == 1.0
    assert report["search"]["control_heldout_accuracy"] == 0.9
    assert (trial["drop"], trial["kept"], trial["fine_tuned"]) == (pytest.approx(2.0), True, True)


def tell(monkeypatch: pytest.MonkeyPatch, accuracies: Sequence[float], tuned: FineTuned) -> None:
    """Let trials be told these accuracies, one after the other, and this outcome of every training."""
    told = iter(accuracies)
    monkeypatch.setattr(trials, "top1", lambda *_: next(told))
    monkeypatch.setattr(trials, "fine_tune", lambda *_: tuned)


def test_a_training_that_harms_all_samples_alike_is_no_excuse(
    make_job: Callable[..., JobRecord], run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is forgotten where the original is as bad on what it is trained on."""
    tell(monkeypatch, [1.0, 0.5, 0.6, 0.2, 0.5], FineTuned(first_loss=2.0, last_loss=1.0))
    asked = r"at most 5 points below 90.00%, the original trained likewise \(as it is and trials as fitted, 100.00%\)"
    with pytest.raises(ProblemError, match=rf"{asked}.*40 points below.*this one harms the original too"):
        run(make_job(compression=target(max_accuracy_drop=5), search={"max_trials": 1}))


@pytest.mark.parametrize("rate", [0.1, 100.0])
def test_a_rate_that_ruins_all_models_leaves_them_as_they_were_fitted(
    resources: Resources, tmp_path: Path, make_job: Callable[..., JobRecord], run: Run, rate: float
) -> None:
    path = tmp_path / "trained.safetensors"
    save_file(trained_lenet(datasets.load("digits")).state_dict(), path)
    settings = {
        "checkpoint": add_file(resources, path, "checkpoint"),
        "compression": target(max_accuracy_drop=1.0),
        "fit": {"steps": 100},
        "fine_tune": {"epochs": 2, "batch_size": 128, "learning_rate": rate},
        "search": {"max_trials": 6},
    }
    report = run(make_job(**settings)).report
    (chosen,) = [t for t in report["search"]["trials"] if t["parameters"] == report["parameters"]["compressed"]]
    assert not chosen["fine_tuned"]
    assert report["accuracy"]["final"] > report["accuracy"]["baseline"] - 0.05


def test_a_training_that_diverges_leaves_the_fit(
    make_job: Callable[..., JobRecord], run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def diverge(*_: object) -> FineTuned:
        raise TrainingDiverged("the loss is nan")

    monkeypatch.setattr(trials, "fine_tune", diverge)
    report = run(make_job(compression=target(max_accuracy_drop=100), search={"max_trials": 1})).report
    (trial,) = report["search"]["trials"]
    assert (trial["kept"], trial["fine_tuned"]) == (True, False)
    assert report["fine_tuning"] is None
    with pytest.raises(ProblemError, match="training diverged in each of 1 trials"):
        run(make_job(compression={**target(max_accuracy_drop=100), "gate_bits": 4}, search={"max_trials": 1}))


def test_a_validation_split_decides_in_place_of_training_samples(
    make_job: Callable[..., JobRecord], run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = datasets.load("digits")
    val_x, val_y = real.train_x[:100], (real.train_y[:100] + (torch.arange(100) < 30)) % 10  # 30 wrong labels
    data = replace(real, train_x=real.train_x[100:], train_y=real.train_y[100:], val_x=val_x, val_y=val_y)
    monkeypatch.setattr(datasets, "load", lambda *_: data)
    seen: list[Tensor] = []
    fine_tune = trials.fine_tune

    def watched(model: nn.Module, samples: tuple[Tensor, Tensor], *others: Any) -> FineTuned:
        seen.append(samples[0])
        return fine_tune(model, samples, *others)

    monkeypatch.setattr(trials, "fine_tune", watched)
    report = run(make_job(compression=target(max_accuracy_drop=100), search={"max_trials": 1})).report
    search, (trial,) = report["search"], report["search"]["trials"]
    assert (search["heldout_split"], search["heldout_samples"]) == ("val", 100)
    assert search["control_heldout_accuracy"] == search["baseline_heldout_accuracy"] <= 0.75
    assert trial["drop"] == pytest.approx(
        100 * (search["baseline_heldout_accuracy"] - trial["heldout_accuracy"]), abs=1e-3
    )
    assert report["sensitivity"]["samples"] == 100
    (trained,) = seen  # no control
    assert torch.equal(trained, data.train_x)


def test_a_training_that_harms_the_original_too_excuses_nothing(
    make_job: Callable[..., JobRecord], run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The samples of the training are lost, and on those held out it is even worse: that would excuse 20 points.
    tell(monkeypatch, [1.0, 0.4, 0.6, 0.2, 0.5], FineTuned(first_loss=1.0, last_loss=2.0))
    with pytest.raises(ProblemError, match=r"50 points below.*this one harms the original too"):
        run(make_job(compression=target(max_accuracy_drop=5), search={"max_trials": 1}))


def test_a_loss_that_rises_of_an_original_that_knew_its_samples_by_heart_is_no_harm(
    make_job: Callable[..., JobRecord], run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    tell(monkeypatch, [1.0, 0.9, 1.0, 0.2, 0.88], FineTuned(first_loss=0.001, last_loss=0.01))
    report = run(make_job(compression=target(max_accuracy_drop=5), search={"max_trials": 1})).report
    assert report["search"]["control_heldout_accuracy"] == 0.9
    assert report["search"]["trials"][0]["drop"] == pytest.approx(2.0)


def test_intervals_and_warnings_are_in_the_report(searched: Searched) -> None:
    report = searched.outcome.report
    for name, (low, high) in report["accuracy"]["interval_95"].items():
        assert low <= report["accuracy"][name] <= high
    assert set(report["accuracy"]["interval_95"]) == {"baseline", "after_fit", "final"}
    assert all(set(warning) == {"code", "detail"} for warning in report["warnings"])


def test_the_change_in_the_report_is_that_of_its_accuracies(searched: Searched) -> None:
    found = Report.model_validate(searched.outcome.report).accuracy
    assert found is not None
    assert found.change is not None
    assert found.change.points == pytest.approx(100 * (found.final - found.baseline), abs=1e-4)
    assert found.change.won - found.change.lost == round(found.samples * (found.final - found.baseline))
    low, high = found.change.interval
    assert low <= found.change.points <= high
    narrowest = 2 * 100 * 1.96 * 2**0.5 / (found.samples + 2)  # of no change at all
    assert high - low >= narrowest - 1e-3


def test_no_model_that_keeps_the_accuracy_fails_with_the_best_found(
    make_job: Callable[..., JobRecord], run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Trials, "_compressed", lambda self, _plan: Measured(self.baseline - 0.2, FineTuned(), False))
    with pytest.raises(ProblemError, match=r"best of \d trials .* 20 points below") as raised:
        run(make_job(compression=target(max_accuracy_drop=1)))
    assert raised.value.code == "accuracy_not_kept"
    assert raised.value.errors[0].pointer == "/compression/target/max_accuracy_drop"
    trials = [error.detail for error in raised.value.errors if error.code == "trial"]
    assert len(trials) == len(set(trials)) > 1
    told = re.compile(r"trial of [\d,]+ numbers \(a ratio of [\d.]+\): -?[\d.]+% right, 20 points below")
    assert [trial for trial in trials if not told.fullmatch(trial)] == []
    # The largest was tried, so neither trials nor minutes would help.
    assert raised.value.detail.endswith("; allow a larger drop; or allow more epochs of fine-tuning")


def test_a_search_in_vain_for_want_of_time_says_what_was_not_tried(
    make_job: Callable[..., JobRecord], run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def once(self: Trials, _plan: Plan) -> Measured:
        if self.done:
            raise OutOfTime
        return Measured(self.baseline - 0.2, FineTuned(), False)

    monkeypatch.setattr(Trials, "_compressed", once)
    with pytest.raises(ProblemError, match=r"the only trial is 20 points below") as raised:
        run(make_job(compression=target(max_accuracy_drop=1)))
    advice = "; allow a larger drop; or raise search.max_minutes, 30: the largest size was not tried"
    assert raised.value.detail.endswith(advice)


def test_time_for_one_more_trial_is_for_the_largest(
    make_job: Callable[..., JobRecord], run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The clock stands still but for trials, which take 20 of 30 minutes each: the second is the last."""
    clock = 0.0

    def slow(self: Trials, plan: Plan) -> Measured:
        nonlocal clock
        clock += 1200.0
        return Measured(self.baseline - 0.2, FineTuned(), False)

    monkeypatch.setattr(Trials, "_compressed", slow)
    for module in (choose, search_module, trials):
        monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: clock))
    job = make_job(compression=target(max_accuracy_drop=1), search={"max_trials": 8})
    with pytest.raises(ProblemError, match="accuracy_drop") as raised:
        run(job)
    first, second = (error.detail for error in raised.value.errors[1:3])
    sizes = [int(re.search(r"trial of ([\d,]+) numbers", text)[1].replace(",", "")) for text in (first, second)]
    assert sizes[1] > 2 * sizes[0]
    assert "allow more epochs" in raised.value.detail


def test_weights_of_several_dtypes_are_no_group(
    resources: Resources, tmp_path: Path, run: Run, make_job: Callable[..., JobRecord]
) -> None:
    state = trained_lenet(datasets.load("digits")).state_dict()
    state["fc1.weight"] = state["fc1.weight"].half()
    save_file(state, tmp_path / "mixed.safetensors")
    checkpoint = add_file(resources, tmp_path / "mixed.safetensors", "checkpoint")
    with pytest.raises(ProblemError, match="weights of one dtype in a group") as raised:
        run(make_job(checkpoint=checkpoint, compression={"layers": [["fc1", "fc2"]]}))
    assert raised.value.code == "group_invalid"


@pytest.mark.parametrize("diverges", [True, False])
def test_where_training_makes_large_models_worse_smaller_ones_are_tried(
    diverges: bool,
    resources: Resources,
    tmp_path: Path,
    make_job: Callable[..., JobRecord],
    run: Run,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As with a learning rate that is too high for them."""
    fine_tune = trials.fine_tune
    first: list[int] = []

    def worse(model: nn.Module, samples: tuple[Tensor, Tensor], settings: JobSettings, *others: Any) -> FineTuned:
        gates = sum(found.gates.numel() for found in encoded(model).values())
        if gates:
            first.append(gates)
        if first and gates > first[0] / 2:
            if diverges:
                raise TrainingDiverged("the loss is nan")
            for found in encoded(model).values():
                torch.nn.init.zeros_(found.gates)
            return FineTuned(first_loss=1.0, last_loss=2.0)
        return fine_tune(model, samples, settings, *others)

    monkeypatch.setattr(trials, "fine_tune", worse)
    save_file(trained_lenet(datasets.load("digits")).state_dict(), tmp_path / "trained.safetensors")
    job = make_job(
        checkpoint=add_file(resources, tmp_path / "trained.safetensors", "checkpoint"),
        compression=target(max_accuracy_drop=20),
        fit={"steps": 0},
        fine_tune={"epochs": 12, "batch_size": 32},
    )
    found = run(job).report["search"]["trials"]
    sizes = [trial["encoded_parameters"] for trial in found]
    assert found[0]["loss_rose"]
    assert not found[0]["kept"]
    assert sizes[1] < sizes[0], "a larger one would be harder still to train"
    assert all(trial["loss_rose"] == (trial["encoded_parameters"] > sizes[0] / 2) for trial in found)
    assert all(trial["collapsed"] == trial["loss_rose"] for trial in found)


def test_where_training_only_does_harm_larger_ones_are_tried(
    make_job: Callable[..., JobRecord], run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are nearer to the original as they are fitted; no training has come to nothing."""

    def harmed(self: Trials, plan: Plan) -> Measured:
        sizes.append(-plan.saved)
        return Measured(self.baseline - 0.2, None, loss_rose=True, collapsed=False)

    sizes: list[int] = []
    monkeypatch.setattr(Trials, "_compressed", harmed)
    with pytest.raises(ProblemError, match="20 points below"):
        run(make_job(compression=target(max_accuracy_drop=5), search={"max_trials": 4}))
    assert sizes == sorted(sizes)


def test_a_model_that_training_makes_worse_is_left_as_it_was_fitted(
    make_job: Callable[..., JobRecord], run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forget(model: nn.Module, *_: object) -> FineTuned:
        for parameter in model.parameters():
            torch.nn.init.zeros_(parameter)
        return FineTuned(first_loss=1.0, last_loss=2.0)

    monkeypatch.setattr(trials, "fine_tune", forget)
    report = run(make_job(compression=target(max_accuracy_drop=60), search={"max_trials": 2})).report
    assert not any(trial["fine_tuned"] for trial in report["search"]["trials"])
    assert report["fine_tuning"] is None
    assert "fine_tune" not in report["seconds"]
    assert report["accuracy"]["final"] == report["accuracy"]["after_fit"]


def test_a_size_at_which_training_diverges_does_not_end_the_search(
    make_job: Callable[..., JobRecord], run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In few bits there is no fit to fall back on."""
    fine_tune = trials.fine_tune
    seen: list[bool] = []

    def diverge_at_first(model: nn.Module, *others: Any) -> FineTuned:
        seen.append(bool(encoded(model)))
        if seen.count(True) == 1 and seen[-1]:
            raise TrainingDiverged("the loss is nan")
        return fine_tune(model, *others)

    monkeypatch.setattr(trials, "fine_tune", diverge_at_first)
    wish = {**target(max_accuracy_drop=100), "gate_bits": 6}
    report = run(make_job(compression=wish, search={"max_trials": 2})).report
    first, second = report["search"]["trials"]
    assert (first["kept"], first["heldout_accuracy"], first["loss_rose"]) == (False, None, True)
    assert second["kept"]
    assert report["parameters"]["encoded"]["compressed"] == second["encoded_parameters"]


def test_a_size_at_which_a_fit_diverges_does_not_end_the_search(
    make_job: Callable[..., JobRecord], run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    encode, calls = trials.encode, []

    def diverge_at_first(*given: Any) -> dict[str, ADTN]:
        calls.append(given)
        if len(calls) == 1:
            raise TrainingDiverged("fc1: fit: the error is nan at step 3")
        return encode(*given)

    monkeypatch.setattr(trials, "encode", diverge_at_first)
    report = run(make_job(compression=target(max_accuracy_drop=100), search={"max_trials": 2})).report
    first, second = report["search"]["trials"]
    assert (first["kept"], first["heldout_accuracy"], first["collapsed"]) == (False, None, True)
    assert second["kept"]
    assert report["parameters"]["encoded"]["compressed"] == second["encoded_parameters"]


@pytest.mark.parametrize(("dense", "refused"), [("train", True), ("freeze", False)])
def test_natural_epochs_need_room_for_the_whole_target_where_all_of_it_is_trained(
    make_job: Callable[..., JobRecord], run: Run, monkeypatch: pytest.MonkeyPatch, dense: str, refused: bool
) -> None:
    """Frozen, a layer that stays dense is not."""

    class Begun(Exception):
        pass

    def begin(*_: object) -> None:
        raise Begun

    monkeypatch.setattr(choose, "_moments", begin)
    job = make_job(compression=target(parameters=9000), fine_tune={"epochs": 2, "natural_epochs": 1, "dense": dense})
    with pytest.raises(NotSampleWise if refused else Begun):
        run(job)


def test_where_the_final_training_diverges_the_model_is_that_of_its_trial(
    make_job: Callable[..., JobRecord], run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    fine_tune = trials.fine_tune

    def diverge_on_all(model: nn.Module, samples: tuple[Tensor, Tensor], *others: Any) -> FineTuned:
        seen.append(len(samples[1]))
        if len(seen) == 1:
            for parameter in model.parameters():
                torch.nn.init.constant_(parameter, torch.nan)
            raise TrainingDiverged("the loss is nan at step 7")
        return fine_tune(model, samples, *others)

    decoded: list[Tensor] = []

    def decode_all(_inputs: object, _compressed: object, fitted: dict[str, ADTN]) -> None:
        decoded.extend(found.decode() for found in fitted.values())

    monkeypatch.setattr("worker.pipeline.tune.fine_tune", diverge_on_all)
    monkeypatch.setattr("worker.pipeline.run.latencies", decode_all)
    wish = {"epochs": 6, "batch_size": 64}
    job = make_job(compression=target(max_accuracy_drop=100), search={"max_trials": 1}, fine_tune=wish)
    report = run(job).report
    assert seen == [1437, 1437 - 287]
    assert decoded
    assert all(weight.isfinite().all() for weight in decoded)  # the report tells of these
    assert report["fine_tuning"]["samples"] == 6 * (1437 - 287)
    (told,) = [warning for warning in report["warnings"] if warning["code"] == "trained_as_tried"]
    assert "the loss is nan at step 7" in told["detail"]
    (trial,) = report["search"]["trials"]
    assert report["accuracy"]["final"] == pytest.approx(trial["heldout_accuracy"], abs=0.08)


def test_where_the_final_training_ruins_the_model_it_is_that_of_its_trial(
    make_job: Callable[..., JobRecord], run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    fine_tune = trials.fine_tune
    seen: list[int] = []

    def ruin_on_all(model: nn.Module, samples: tuple[Tensor, Tensor], *others: Any) -> FineTuned:
        seen.append(len(samples[1]))
        if len(seen) == 1:
            for parameter in model.parameters():
                torch.nn.init.zeros_(parameter)
            return FineTuned(first_loss=1.0, last_loss=2.3)
        return fine_tune(model, samples, *others)

    monkeypatch.setattr("worker.pipeline.tune.fine_tune", ruin_on_all)
    wish = {"epochs": 6, "batch_size": 64}
    report = run(make_job(compression=target(max_accuracy_drop=100), search={"max_trials": 1}, fine_tune=wish)).report
    assert seen == [1437, 1437 - 287]
    (told,) = [warning for warning in report["warnings"] if warning["code"] == "trained_as_tried"]
    assert "the loss rose" in told["detail"]
    (trial,) = report["search"]["trials"]
    assert report["accuracy"]["final"] == pytest.approx(trial["heldout_accuracy"], abs=0.08)


def test_a_loss_that_rose_in_the_trial_too_is_no_reason_to_train_again(
    make_job: Callable[..., JobRecord], run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []

    def rise(_model: nn.Module, samples: tuple[Tensor, Tensor], *_: object) -> FineTuned:
        seen.append(len(samples[1]))
        return FineTuned(first_loss=1.0, last_loss=1.1)

    monkeypatch.setattr(trials, "fine_tune", rise)
    monkeypatch.setattr("worker.pipeline.tune.fine_tune", rise)
    report = run(make_job(compression=target(max_accuracy_drop=100), search={"max_trials": 1})).report
    (trial,) = report["search"]["trials"]
    assert (trial["loss_rose"], trial["kept"], trial["fine_tuned"]) == (True, True, True)
    assert seen.count(1437) == 1
    assert seen[-1] == 1437
    assert "trained_as_tried" not in {warning["code"] for warning in report["warnings"]}


def hold_nothing_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where every class has a single sample."""
    real = choose.parts_of

    def parts_of(dataset: datasets.Dataset, seed: int) -> Parts:
        parts = real(dataset, seed)
        return replace(parts, heldout_x=parts.heldout_x[:0], heldout_y=parts.heldout_y[:0])

    monkeypatch.setattr(choose, "parts_of", parts_of)


def test_where_nothing_can_be_held_out_layers_are_measured_on_training_samples(
    make_job: Callable[..., JobRecord], run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    hold_nothing_out(monkeypatch)
    sensitivity = run(make_job(compression=target(parameters=700))).report["sensitivity"]
    assert sensitivity["metric"] == "kl_divergence"  # of outputs, not of weights
    assert sensitivity["samples"] > 0


def test_a_search_without_anything_to_hold_out_is_refused_with_the_place(
    make_job: Callable[..., JobRecord], run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    hold_nothing_out(monkeypatch)
    with pytest.raises(ProblemError, match="expected enough training samples to hold some out") as raised:
        run(make_job(compression=target(max_accuracy_drop=1)))
    assert [fault.pointer for fault in raised.value.errors] == ["/dataset"]


def test_where_there_is_no_time_to_measure_the_report_says_so(make_job: Callable[..., JobRecord], run: Run) -> None:
    report = run(make_job(compression=target(parameters=700), search={"max_minutes": 1e-6})).report
    assert {len(layer["sizes"]) for layer in report["sensitivity"]["layers"]} == {0}
    assert "not_measured" in {warning["code"] for warning in report["warnings"]}


def test_a_search_ends_with_its_time(make_job: Callable[..., JobRecord], run: Run) -> None:
    capped = {"max_trials": 3, "max_minutes": 1e-6}
    with pytest.raises(ProblemError, match=r"no trial ended within 1e-06 minutes") as raised:
        run(make_job(compression=target(max_accuracy_drop=1), search=capped))
    assert raised.value.code == "accuracy_not_kept"


def test_another_test_set_changes_nothing_but_the_accuracy(
    searched: Searched, make_job: Callable[..., JobRecord], run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    digests = {artifact.kind: artifact.sha256 for artifact in searched.outcome.artifacts}
    real = datasets.load("digits")
    poison = replace(real, test_x=torch.full_like(real.test_x, torch.nan), test_y=0 * real.test_y)
    monkeypatch.setattr(datasets, "load", lambda *arguments: poison)
    poisoned, honest = run(make_job(compression=target(max_accuracy_drop=100.0))), searched.outcome
    for artifact in poisoned.artifacts:
        if artifact.kind in {"adtn", "dense", "plot"}:
            assert artifact.sha256 == digests[artifact.kind]
    assert poisoned.report["parameters"] == honest.report["parameters"]
    assert poisoned.report["sensitivity"] == honest.report["sensitivity"]
    assert poisoned.report["accuracy"] != honest.report["accuracy"]


def test_the_same_job_again_makes_no_fit_again(
    searched: Searched, make_job: Callable[..., JobRecord], run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def counted(tasks: Sequence[FitTask], *arguments: Any) -> Iterator[tuple[int, ADTN]]:
        asked.append(len(tasks))
        return fit_each(tasks, *arguments)

    monkeypatch.setattr(fit_module, "fit_each", counted)
    again = run(make_job(compression=target(max_accuracy_drop=100.0)))
    assert again.report["parameters"] == searched.outcome.report["parameters"]
    assert set(asked) == {0}  # of the measurement, the trials and the chosen plan


def cut_short(make_job: Callable[..., JobRecord], run: Run) -> JobRecord:
    """A job with the settings of `searched`, whose first attempt ended within its second trial."""
    told: list[str] = []

    def check() -> None:
        if told and told[-1].startswith("trial 2"):
            raise ShuttingDown

    job = make_job(compression=target(max_accuracy_drop=100.0))
    with pytest.raises(ShuttingDown):
        run(job, ProgressReporter(lambda progress, kind: told.append(progress.message), check, interval_s=0))
    return job


@pytest.fixture
def tried(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The sizes of all trials that are run from now on."""
    sizes: list[int] = []
    compressed = Trials._compressed

    def counted(self: Trials, plan: Plan) -> Measured:
        sizes.append(plan.parameters)
        return compressed(self, plan)

    monkeypatch.setattr(Trials, "_compressed", counted)
    return sizes


def test_a_second_attempt_goes_on_after_the_trials_that_have_ended(
    searched: Searched, make_job: Callable[..., JobRecord], run: Run, tried: list[int]
) -> None:
    job, whole = cut_short(make_job, run), searched.outcome.report["search"]
    sizes = [trial["encoded_parameters"] for trial in whole["trials"]]
    assert tried == sizes[:2]
    found = run(job).report["search"]
    assert tried[2:] == sizes[1:]
    timeless = [[{**trial, "seconds": 0} for trial in search["trials"]] for search in (found, whole)]
    assert timeless[0] == timeless[1]
    assert found["control_heldout_accuracy"] == whole["control_heldout_accuracy"]


def test_what_was_measured_of_the_layers_is_taken_over(
    resources: Resources, make_job: Callable[..., JobRecord], run: Run, tried: list[int]
) -> None:
    """Where there was no time for every size, a second attempt would measure more, and try other plans."""
    job = cut_short(make_job, run)
    (kept,) = (resources.settings.data_dir / "objects" / records.folder(job.id) / "sensitivity").iterdir()
    written = json.loads(kept.read_text())
    written["points"] = {key: points[:2] for key, points in written["points"].items()}
    kept.write_text(json.dumps(written))
    sizes = {row["name"]: len(row["sizes"]) for row in run(job).report["sensitivity"]["layers"]}
    assert set(sizes.values()) == {2}


def test_all_attempts_together_have_the_minutes_of_one_search(
    resources: Resources, make_job: Callable[..., JobRecord], run: Run
) -> None:
    job = cut_short(make_job, run)
    (kept,) = (resources.settings.data_dir / "objects" / records.folder(job.id) / "trials").iterdir()
    written = json.loads(kept.read_text())
    written["seconds"] = 60.0 * job.settings.search.max_minutes
    kept.write_text(json.dumps(written))
    report = run(job).report
    assert report["search"]["trials"] == [written]
    assert report["parameters"]["compressed"] == written["parameters"]
    assert report["search"]["ended_by"] == "minutes"
    assert report["search"]["smaller_untried"] > 0
    assert "search_capped" in {warning["code"] for warning in report["warnings"]}


def test_the_control_takes_its_minutes_of_all_attempts_too(
    resources: Resources, make_job: Callable[..., JobRecord], run: Run, tried: list[int]
) -> None:
    job = cut_short(make_job, run)
    folder = resources.settings.data_dir / "objects" / records.folder(job.id)
    (control,) = (folder / "search").iterdir()
    written = json.loads(control.read_text())
    control.write_text(json.dumps({**written, "seconds": 60.0 * job.settings.search.max_minutes}))
    assert len(run(job).report["search"]["trials"]) == 1
    assert tried[2:] == tried[1:2]  # begun, and cut short at once


def test_a_search_that_was_out_of_time_is_not_taken_up_again(
    make_job: Callable[..., JobRecord], run: Run, tried: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the trial that was cut short might end in the next attempt, which would find another answer."""
    told: list[str] = []
    compressed = Trials._compressed

    def out_of_time(self: Trials, plan: Plan) -> Measured:
        if len(tried) == 1:
            raise OutOfTime
        return compressed(self, plan)

    def check() -> None:
        if told and told[-1].startswith("fitting"):
            raise ShuttingDown

    monkeypatch.setattr(Trials, "_compressed", out_of_time)
    job = make_job(compression=target(max_accuracy_drop=100.0))
    with pytest.raises(ShuttingDown):
        run(job, ProgressReporter(lambda progress, kind: told.append(progress.message), check, interval_s=0))
    monkeypatch.setattr(Trials, "_compressed", compressed)
    search = run(job).report["search"]
    assert len(tried) == len(search["trials"]) == 1
    assert search["ended_by"] == "minutes"


def test_whether_there_was_time_for_one_more_trial_alone_is_not_asked_again(
    make_job: Callable[..., JobRecord], run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The clock of a later attempt runs otherwise: it would try another size, and might come to another answer."""
    compare = Trials._compare_with_control
    clock = late = 0.0
    cut, begun = True, list[int]()

    def slow(self: Trials, plan: Plan) -> Measured:
        nonlocal clock
        begun.append(self._parameters(plan))
        if cut and self.done:
            raise ShuttingDown
        clock += 600.0
        return Measured(self.baseline - 0.5, FineTuned(), False)

    def begin(self: Trials, step: Callable[[float, str], None]) -> None:
        nonlocal clock
        clock += late
        compare(self, step)

    monkeypatch.setattr(Trials, "_compressed", slow)
    monkeypatch.setattr(Trials, "_compare_with_control", begin)
    for module in (choose, search_module, trials):
        monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: clock))
    job = make_job(compression=target(max_accuracy_drop=1), search={"max_trials": 8, "max_minutes": 30})
    with pytest.raises(ShuttingDown):
        run(job)
    cut, late = False, 1.0
    with pytest.raises(ProblemError, match="accuracy_drop"):
        run(job)
    assert begun[2] == begun[1]
    assert len(begun) == 4  # and then the largest
    assert begun[3] > begun[2]


def test_trials_of_other_code_are_run_again(
    make_job: Callable[..., JobRecord], run: Run, tried: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    job = cut_short(make_job, run)
    monkeypatch.setattr(kept_module, "KEPT_VERSION", -1)
    run(job)
    assert tried[2:] == [tried[0], tried[1], *tried[4:]]


def test_a_job_is_cancelled_within_a_trial(make_job: Callable[..., JobRecord], run: Run) -> None:
    told: list[str] = []

    def check() -> None:
        if told and told[-1].startswith("trial 1 of at most 3") and "fine-tuning" in told[-1]:
            raise Cancelled

    job = make_job(compression=target(max_accuracy_drop=1))
    progress = ProgressReporter(lambda progress, kind: told.append(progress.message), check, interval_s=0)
    with pytest.raises(Cancelled):
        run(job, progress)


def test_progress_of_a_search_never_goes_back(searched: Searched) -> None:
    fractions = [progress.fraction for progress in searched.progress]
    assert fractions == sorted(fractions)
    assert sum(shares_of(searched.job.settings).values()) == pytest.approx(1)
    trials = {p.message.split(",")[0] for p in searched.progress if p.message.startswith("trial")}
    assert trials == {f"trial {number} of at most 3" for number in (1, 2, 3)}
