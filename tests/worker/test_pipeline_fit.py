"""Fits are kept and reused only when everything that they depend on is the same."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from support.contractions import count_contractions
from torch import Tensor, nn

import adtn
from adtn import FitOptions, Layer, Plan, PlanEntry
from adtn.fitting import FitTask
from jobs.store import open_store
from worker.pipeline.compress import place
from worker.pipeline.fit import KeptFits, fingerprint, fit

STRUCTURE = adtn.brick_wall(sites=8, depth=2)
OPTIONS = FitOptions(steps=5, learning_rate=0.02, seed=0)


@pytest.fixture
def weight() -> Tensor:
    return torch.randn(16, 16, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def kept(tmp_path: Path) -> KeptFits:
    return KeptFits(open_store(f"file://{tmp_path}/objects"), "me", tmp_path)


def plan_for(weight: Tensor) -> Plan:
    return Plan((PlanEntry(Layer("fc", "fc.weight", "linear", tuple(weight.shape)), STRUCTURE),))


def test_second_attempt_takes_the_fit_of_the_first(weight: Tensor, kept: KeptFits) -> None:
    steps: list[float] = []
    arguments = plan_for(weight), {"fc.weight": weight}, {}, {"fc.weight": OPTIONS}, kept
    first = fit(*arguments, lambda done, message: steps.append(done))["fc.weight"]
    assert len(steps) == OPTIONS.steps
    second = fit(*arguments, lambda done, message: steps.append(done))["fc.weight"]
    assert len(steps) == OPTIONS.steps
    assert torch.equal(first(), second())
    assert first.relative_error == second.relative_error


def test_a_fit_of_another_owner_is_not_taken_over(weight: Tensor, tmp_path: Path) -> None:
    store, steps = open_store(f"file://{tmp_path}/objects"), []
    for owner in ("me", "you", "me"):
        kept = KeptFits(store, owner, tmp_path)
        arguments = plan_for(weight), {"fc.weight": weight}, {}, {"fc.weight": OPTIONS}, kept
        fit(*arguments, lambda done, message: steps.append(done))
    assert len(steps) == 2 * OPTIONS.steps


def test_equal_structures_are_fitted_together_but_for_those_that_are_kept(
    weight: Tensor, kept: KeptFits, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ["first", "second", "third"]
    weights = {f"{name}.weight": weight + i for i, name in enumerate(names)}
    layers = [Layer(name, f"{name}.weight", "linear", (16, 16)) for name in names]
    plan = Plan(tuple(PlanEntry(layer, STRUCTURE) for layer in layers))
    options = {layer.key: replace(OPTIONS, seed=i) for i, layer in enumerate(layers)}
    alone = fit(Plan(plan.entries[:1]), weights, {}, options, kept, lambda done, message: None)
    contractions = count_contractions(monkeypatch)
    seen: list[tuple[float, str]] = []
    found = fit(plan, weights, {}, options, kept, lambda done, message: seen.append((done, message)))
    assert contractions.backward == OPTIONS.steps
    assert list(found) == [f"{name}.weight" for name in names]
    assert torch.equal(found["first.weight"](), alone["first.weight"]())
    assert [message.split(",")[0] for _, message in seen] == OPTIONS.steps * ["fitting second", "fitting third"]
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert seen[-1][0] == pytest.approx(1.0)
    again = fit(plan, weights, {}, options, kept, lambda done, message: seen.append((done, message)))
    assert len(seen) == 2 * OPTIONS.steps
    assert all(torch.equal(again[key](), found[key]()) for key in weights)


def test_fingerprint_tells_apart_all_that_a_fit_depends_on(weight: Tensor) -> None:
    other_weight = weight.clone()
    other_weight[3, 5] += 1e-3
    task = FitTask(weight, STRUCTURE, OPTIONS)
    variants = [
        task,
        replace(task, weight=other_weight),
        replace(task, weight=weight.reshape(8, 32)),
        replace(task, weight=weight.double()),
        replace(task, structure=replace(STRUCTURE, activation="none")),
        replace(task, structure=adtn.brick_wall(sites=8, depth=3)),
        replace(task, options=replace(OPTIONS, seed=1)),
        replace(task, options=replace(OPTIONS, steps=6)),
        replace(task, options=replace(OPTIONS, learning_rate=0.03)),
        replace(task, input_moment=torch.eye(16)),
        replace(task, input_moment=2 * torch.eye(16)),
    ]
    assert len({fingerprint(variant) for variant in variants}) == len(variants)
    assert fingerprint(task) == fingerprint(replace(task, weight=weight.clone(), name="another name"))


class Tied(nn.Module):
    """Two layers with one weight, whose inputs have different means: (N, 16) to (N, 2, 8)."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(16, 8), nn.Linear(16, 8)
        self.second.weight = self.first.weight

    def forward(self, inputs: Tensor) -> Tensor:
        return torch.stack([self.first(inputs), self.second(inputs + 3)], 1)


def test_a_placed_weight_keeps_the_mean_outputs_of_every_layer_that_shares_it() -> None:
    torch.manual_seed(0)
    model, inputs = Tied(), torch.randn(100, 16)
    before = model(inputs).detach()
    (layer,) = adtn.layers_of(model)
    place(model, layer, adtn.ADTN(layer.shape, adtn.brick_wall(7)), adtn.input_moments(model, inputs, [layer.key]))
    after = model(inputs).detach()
    assert not torch.allclose(before, after, atol=0.1)
    torch.testing.assert_close(after.mean(0), before.mean(0), rtol=1e-4, atol=1e-5)
