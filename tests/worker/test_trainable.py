"""Trainings that would break at their first steps are refused before any work."""

from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch import nn

from jobs.problems import ProblemError
from jobs.schemas.settings import FineTuneSettings
from worker.pipeline.trainable import require_trainable

NORMED = nn.Sequential(nn.Linear(8, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
SAMPLES = torch.rand(5, 8)


@pytest.mark.parametrize(
    ("wish", "samples", "refused"),
    [
        ({"batch_size": 1}, 5, "batch_size"),
        ({"batch_size": 64}, 1, "batch_size"),
        ({"epochs": 0, "teacher_epochs": 1, "batch_size": 1}, 5, "batch_size"),
        ({"batch_size": 1, "epochs": 0}, 5, None),
        ({"batch_size": 1, "dense": "freeze"}, 5, None),
        ({"batch_size": 2}, 5, None),
    ],
)
def test_a_batch_norm_needs_more_than_one_value_of_a_channel(
    wish: dict[str, Any], samples: int, refused: str | None
) -> None:
    before = {key: tensor.clone() for key, tensor in NORMED.state_dict().items()}
    with pytest.raises(ProblemError, match="more than 1 value per channel") if refused else nullcontext() as raised:
        require_trainable(FineTuneSettings(**wish), NORMED, SAMPLES[:samples])
    if raised is not None:
        assert (raised.value.code, raised.value.errors[0].pointer) == ("validation_failed", f"/fine_tune/{refused}")
    assert all(torch.equal(tensor, before[key]) for key, tensor in NORMED.state_dict().items())
    assert NORMED.training


def test_without_such_a_norm_steps_of_one_sample_are_fine() -> None:
    require_trainable(FineTuneSettings(batch_size=1), nn.Linear(8, 2), SAMPLES)


def test_weights_that_will_be_encoded_may_be_of_any_dtype() -> None:
    model = nn.Linear(8, 2, bias=False).half()
    require_trainable(FineTuneSettings(), model, SAMPLES, ["weight"])
    with pytest.raises(ProblemError, match="got float16"):
        require_trainable(FineTuneSettings(teacher_epochs=1), model, SAMPLES, ["weight"])


@pytest.mark.parametrize(
    ("dtype", "dense", "refused"),
    [
        (torch.float16, "train", True),
        (torch.float16, "freeze", False),
        (torch.bfloat16, "train", False),
        (torch.float32, "train", False),
    ],
)
def test_weights_in_which_adam_divides_by_zero_are_not_trained(dtype: torch.dtype, dense: str, refused: bool) -> None:
    model, samples = nn.Linear(8, 2).to(dtype), SAMPLES.clone()
    samples[:, 0] = 0  # as of a pixel that is always black
    with pytest.raises(ProblemError, match=r"weight: expected float32.*got float16") if refused else nullcontext():
        require_trainable(FineTuneSettings(dense=dense), model, samples)  # type: ignore[arg-type]
    step = torch.optim.Adam(model.parameters(), lr=1e-3)
    for _ in range(3):
        step.zero_grad()
        model(samples.to(dtype)).float().square().sum().backward()
        step.step()
    assert bool(model.weight.isfinite().all()) is (dtype != torch.float16), "as the refusal says"
