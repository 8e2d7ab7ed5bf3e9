"""What is measured of layers before numbers are shared out, on a model in which one matters and another does not."""

from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import adtn
from adtn.allocation import allocate
from adtn.candidates import Candidates, candidates
from adtn.errors import TrainingDiverged
from adtn.plan import Plan, Target
from jobs import planning
from jobs.schemas.settings import JobSettings
from jobs.store import open_store
from worker.blueprint import Blueprint
from worker.pipeline import sensitivity
from worker.pipeline.attempt import Attempt
from worker.pipeline.caveats import caveats_of_measuring
from worker.pipeline.inspect import Inputs
from worker.pipeline.progress import ProgressReporter
from worker.pipeline.search import OutOfTime
from worker.pipeline.sensitivity import BROKEN, Sensitivity, measure

LIMIT = 1200
SETTINGS = JobSettings.model_validate({"checkpoint": "file_" + "0" * 32, "fit": {"steps": 20}, "seed": 4})


class TwoBranches(nn.Module):
    """`quiet` adds next to nothing to what `loud` says."""

    def __init__(self) -> None:
        super().__init__()
        self.loud = nn.Linear(64, 64)
        self.quiet = nn.Linear(64, 64)
        self.head = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = self.head(torch.relu(self.loud(x)) + 1e-3 * torch.relu(self.quiet(x)))
        return 5 * scores


@pytest.fixture(scope="module")
def model() -> TwoBranches:
    torch.manual_seed(0)
    return TwoBranches()


@pytest.fixture
def attempt(model: TwoBranches, tmp_path: Path) -> Attempt:
    inputs = Inputs({}, model, adtn.layers_of(model), Blueprint(None, None), None, None)
    progress = ProgressReporter(lambda progress, kind: None, lambda: None)
    job = SimpleNamespace(settings=SETTINGS, owner="local")
    return Attempt(job, inputs, open_store(f"file://{tmp_path}/objects"), tmp_path, progress)


@pytest.fixture
def branches(model: TwoBranches) -> Candidates:
    return candidates(adtn.layers_of(model), ["loud", "quiet"])


def measured_on(samples: Tensor | None, attempt: Attempt, branches: Candidates) -> Sensitivity:
    return measure(attempt, branches, LIMIT, samples, {}, lambda done, message: None)


def test_the_layer_that_matters_is_told_from_the_one_that_does_not(attempt: Attempt, branches: Candidates) -> None:
    found = measured_on(torch.randn(300, 64), attempt, branches)
    assert (found.metric, found.samples) == ("kl_divergence", 300)
    worst = {key: max(loss for _, loss in points) for key, points in found.points.items()}
    assert worst["loud.weight"] > 100 * worst["quiet.weight"]
    plan = allocate(branches, Target(parameters=LIMIT), found.curves)
    sizes = {entry.layer.name: entry.parameters for entry in plan.entries}
    assert sizes["loud"] >= 2 * sizes["quiet"]


def test_the_loss_is_the_divergence_of_the_whole_models_outputs(attempt: Attempt, branches: Candidates) -> None:
    samples = torch.randn(50, 64)
    key, (size, loss) = "loud.weight", measured_on(samples, attempt, branches).points["loud.weight"][0]
    rung = next(rung for rung in branches.items[0].rungs if rung.parameters == size)
    weight = attempt.inputs.model.get_parameter(key)
    fitted = adtn.fit(weight, rung, adtn.FitOptions(20, SETTINGS.fit.learning_rate, SETTINGS.seed))
    with torch.no_grad():
        expected = attempt.inputs.model(samples).double().softmax(1)
        replaced = {key: fitted.decode()}
        found = torch.func.functional_call(attempt.inputs.model, replaced, (samples,)).double().softmax(1)
    assert loss == pytest.approx(float((expected * (expected / found).log()).sum(1).mean()), rel=1e-6)


def test_without_data_weights_are_compared(attempt: Attempt, branches: Candidates) -> None:
    found = measured_on(None, attempt, branches)
    assert (found.metric, found.samples) == ("squared_relative_error", 0)
    for points in found.points.values():
        assert all(0 < loss < 1 for _, loss in points)


def test_a_fit_that_diverges_counts_as_the_worst_and_ends_no_other(
    attempt: Attempt, branches: Candidates, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = measured_on(None, attempt, branches).points
    diverging = next(rung for rung in branches.items[0].rungs if rung.parameters == expected["loud.weight"][1][0])

    def fit(plan: Plan, *others: Any) -> dict[str, adtn.ADTN]:
        if any((entry.layer.name, entry.structure) == ("loud", diverging) for entry in plan.entries):
            raise TrainingDiverged("loud: fit: the error is nan at step 3")
        return real(plan, *others)

    real = sensitivity.fit
    monkeypatch.setattr(sensitivity, "fit", fit)
    found = measured_on(None, attempt, branches).points
    assert found["quiet.weight"] == expected["quiet.weight"]
    assert found["loud.weight"][1] == (diverging.parameters, BROKEN)
    del found["loud.weight"][1], expected["loud.weight"][1]
    assert found["loud.weight"] == expected["loud.weight"]


def test_nothing_of_the_model_changes_and_the_same_is_measured_again(attempt: Attempt, branches: Candidates) -> None:
    before = {key: tensor.clone() for key, tensor in attempt.inputs.model.state_dict().items()}
    samples = torch.randn(100, 64)
    assert measured_on(samples, attempt, branches).points == measured_on(samples, attempt, branches).points
    after = attempt.inputs.model.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(after[key], before[key]) for key in before)


def test_progress_goes_up_to_one(attempt: Attempt, branches: Candidates) -> None:
    shares: list[float] = []
    measure(attempt, branches, LIMIT, None, {}, lambda done, message: shares.append(done))
    assert shares == sorted(shares)
    assert shares[-1] == pytest.approx(1.0)


@pytest.mark.parametrize(("share", "sizes"), [(0.0, 0), (0.5, 2)])
def test_sizes_for_which_there_is_no_time_are_not_measured(
    attempt: Attempt, branches: Candidates, share: float, sizes: int
) -> None:
    def until(done: float, _message: str) -> None:
        if done > share:
            raise OutOfTime

    found = measure(attempt, branches, LIMIT, torch.randn(100, 64), {}, until)
    assert [len(points) for points in found.points.values()] == [sizes, sizes]
    assert set(found.curves) == (set(found.points) if sizes else set())  # layers are compared, or none is measured
    assert (found.count, found.wanted) == (2 * sizes, 10)
    (told,) = caveats_of_measuring(found)
    assert told["code"] == "not_measured"
    assert ("4 of the 10 fits" if sizes else "shared out evenly") in told["detail"]


def test_where_all_sizes_are_measured_there_is_nothing_to_warn_of(attempt: Attempt, branches: Candidates) -> None:
    found = measured_on(None, attempt, branches)
    assert found.count == found.wanted == 10
    assert caveats_of_measuring(found) == []


def test_the_more_a_network_computes_the_fewer_samples_are_looked_at(
    attempt: Attempt, branches: Candidates, monkeypatch: pytest.MonkeyPatch
) -> None:
    a_sample = 2 * (64 * 64 + 64 * 64 + 64 * 10)
    for flops, samples in ((250 * a_sample, 250), (a_sample, planning.LEAST_LOOKED_AT), (10**9, 300)):
        monkeypatch.setattr(planning, "MOST_FLOPS", flops)
        assert measured_on(torch.randn(300, 64), attempt, branches).samples == samples


def test_a_few_sizes_are_measured_from_the_smallest_to_the_largest_that_could_be_chosen(branches: Candidates) -> None:
    item = branches.items[0]
    sizes = [rung.parameters for rung in planning.sizes_to_measure(item, 1500)]
    fitting = [rung.parameters for rung in item.rungs if rung.parameters <= 1500]
    assert (sizes[0], sizes[-1]) == (fitting[0], fitting[-1])
    assert 2 <= len(sizes) <= 5
    assert all(a < b for a, b in pairwise(sizes))
    assert [rung.parameters for rung in planning.sizes_to_measure(item, 1)] == fitting[:1]
