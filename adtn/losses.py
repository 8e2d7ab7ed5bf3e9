"""What fine-tuning minimises: how far a classifier's answers are from the labels, and from those of a teacher."""

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from adtn.errors import ShapeError

Classes = Literal["exclusive", "independent"]
"""How logits become shares of the classes: together by a softmax, or each by a sigmoid."""


def task_loss(outputs: Tensor, labels: Tensor, classes: Classes = "exclusive") -> Tensor:
    """The cross entropy of the shares and the labels, the mean over the batch.

    Args:
        outputs: Logits of the model, (batch, classes).
        labels: (batch,) int64, the class of each sample.
        classes: If independent, the loss is the sum of one binary cross entropy a class.
    """
    if classes == "exclusive":
        return functional.cross_entropy(outputs, labels)
    one_hot = functional.one_hot(labels, outputs.shape[1]).to(outputs.dtype)
    return functional.binary_cross_entropy_with_logits(outputs, one_hot, reduction="sum") / len(outputs)


def distillation_loss(outputs: Tensor, targets: Tensor, temperature: float, classes: Classes = "exclusive") -> Tensor:
    """temperature^2 * KL(shares of targets / T || shares of outputs / T), the mean over the batch.

    Args:
        outputs: Logits of the model, (batch, classes).
        targets: Logits of the teacher, (batch, classes).
        temperature: T; the factor keeps the gradient's size independent of it.
        classes: If independent, the divergences of all classes are added up: each share is one of two.

    Raises:
        ShapeError: The teacher has other classes.

    Source: Hinton, Vinyals, Dean, arXiv:1503.02531.
    """
    if outputs.shape != targets.shape:
        raise ShapeError(
            f"teacher: expected outputs of the model's shape {tuple(outputs.shape)}, got {tuple(targets.shape)}"
        )
    softened, wanted = outputs / temperature, targets / temperature
    if classes == "exclusive":
        found, expected = functional.log_softmax(softened, dim=-1), functional.log_softmax(wanted, dim=-1)
    else:
        found, expected = _log_shares(softened), _log_shares(wanted)
    return temperature**2 * functional.kl_div(found, expected, reduction="batchmean", log_target=True)


def _log_shares(logits: Tensor) -> Tensor:
    """Logarithms of the share of each class and of the rest, (batch, 2 classes)."""
    return functional.logsigmoid(torch.cat([logits, -logits], dim=-1))
