"""Losses of fine-tuning, against the formulas written out."""

import pytest
import torch
from torch import Tensor

from adtn.losses import distillation_loss, task_loss


@pytest.fixture
def logits() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    first, second = torch.randn(2, 5, 4, generator=generator, dtype=torch.float64)
    return first, second


def test_exclusive_classes_are_shares_of_one(logits: tuple[Tensor, Tensor]) -> None:
    outputs, targets = logits
    labels = torch.tensor([0, 3, 1, 1, 2])
    shares = outputs.exp() / outputs.exp().sum(1, keepdim=True)
    torch.testing.assert_close(task_loss(outputs, labels), -shares[torch.arange(5), labels].log().mean())
    q, p = ((part / 3).exp() / (part / 3).exp().sum(1, keepdim=True) for part in (outputs, targets))
    torch.testing.assert_close(distillation_loss(outputs, targets, 3.0), 9 * (p * (p / q).log()).sum(1).mean())


def test_independent_classes_are_each_there_or_not(logits: tuple[Tensor, Tensor]) -> None:
    outputs, targets = logits
    labels = torch.tensor([0, 3, 1, 1, 2])
    shares = 1 / (1 + (-outputs).exp())
    there = torch.eye(4, dtype=torch.float64)[labels]
    expected = -(there * shares.log() + (1 - there) * (1 - shares).log()).sum(1).mean()
    torch.testing.assert_close(task_loss(outputs, labels, "independent"), expected)
    q, p = (1 / (1 + (-part / 3).exp()) for part in (outputs, targets))
    expected = 9 * (p * (p / q).log() + (1 - p) * ((1 - p) / (1 - q)).log()).sum(1).mean()
    torch.testing.assert_close(distillation_loss(outputs, targets, 3.0, "independent"), expected)


@pytest.mark.parametrize("classes", ["exclusive", "independent"])
def test_extreme_logits_give_finite_gradients(classes: str) -> None:
    outputs = torch.tensor([[200.0, -200.0]], requires_grad=True)
    loss = task_loss(outputs, torch.tensor([1]), classes) + distillation_loss(outputs, -outputs.detach(), 2.0, classes)
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(outputs.grad).all()
    assert outputs.grad[0, 0] > 0 > outputs.grad[0, 1]
