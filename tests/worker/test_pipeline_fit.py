"""Fits are kept and reused only when everything that they depend on is the same."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

import adtn
from adtn import FitOptions, Layer, Plan, PlanEntry
from jobs.store import Store, open_store
from worker.pipeline.fit import fingerprint, fit

STRUCTURE = adtn.brick_wall(sites=8, depth=2)
OPTIONS = FitOptions(steps=5, learning_rate=0.02, seed=0)


@pytest.fixture
def weight() -> Tensor:
    return torch.randn(16, 16, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(f"file://{tmp_path}/objects")


def plan_for(weight: Tensor) -> Plan:
    return Plan((PlanEntry(Layer("fc", "fc.weight", "linear", tuple(weight.shape)), STRUCTURE),))


def test_second_attempt_takes_the_fit_of_the_first(weight: Tensor, store: Store, tmp_path: Path) -> None:
    steps: list[float] = []
    arguments = plan_for(weight), {"fc.weight": weight}, {}, OPTIONS, store, tmp_path
    first = fit(*arguments, lambda done, message: steps.append(done))["fc.weight"]
    assert len(steps) == OPTIONS.steps
    second = fit(*arguments, lambda done, message: steps.append(done))["fc.weight"]
    assert len(steps) == OPTIONS.steps
    assert torch.equal(first(), second())
    assert first.relative_error == second.relative_error


def test_fingerprint_tells_apart_all_that_a_fit_depends_on(weight: Tensor) -> None:
    other_weight = weight.clone()
    other_weight[3, 5] += 1e-3
    variants = [
        (weight, STRUCTURE, OPTIONS, None),
        (other_weight, STRUCTURE, OPTIONS, None),
        (weight.reshape(8, 32), STRUCTURE, OPTIONS, None),
        (weight.double(), STRUCTURE, OPTIONS, None),
        (weight, replace(STRUCTURE, activation="none"), OPTIONS, None),
        (weight, adtn.brick_wall(sites=8, depth=3), OPTIONS, None),
        (weight, STRUCTURE, replace(OPTIONS, seed=1), None),
        (weight, STRUCTURE, replace(OPTIONS, steps=6), None),
        (weight, STRUCTURE, replace(OPTIONS, learning_rate=0.03), None),
        (weight, STRUCTURE, OPTIONS, torch.eye(16)),
        (weight, STRUCTURE, OPTIONS, 2 * torch.eye(16)),
    ]
    assert len({fingerprint(*variant) for variant in variants}) == len(variants)
    assert fingerprint(weight, STRUCTURE, OPTIONS, None) == fingerprint(weight.clone(), STRUCTURE, OPTIONS, None)
