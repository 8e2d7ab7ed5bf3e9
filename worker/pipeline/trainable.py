"""What cannot be fine-tuned as it is asked for is refused before any work."""

from collections.abc import Collection

import torch
from torch import Tensor, nn

from adtn.freezing import buffers_restored, trainable
from adtn.generators import devices_with_generators
from jobs.planning import fault
from jobs.schemas.settings import FineTuneSettings


def require_trainable(wish: FineTuneSettings, model: nn.Module, samples: Tensor, encoded: Collection[str] = ()) -> None:
    """Refuse a training that would break at its first steps, whatever the learning rate.

    Args:
        wish: How the model is to be trained.
        model: Before compression; not changed.
        samples: Of the training data, (N, ...), at least one.
        encoded: Keys of the weights that will be encoded, by gates in float32.

    Raises:
        ProblemError: validation_failed for weights in float16, in which Adam divides by zero where a gradient is zero;
            and for a batch norm that would see a single value of a channel.
    """
    if not (wish.epochs or wish.teacher_epochs):
        return
    gone = () if wish.teacher_epochs else encoded
    halves = [key for key, found in model.named_parameters() if found.dtype == torch.float16 and key not in gone]
    if halves and wish.dense == "train":
        detail = (
            f"fine_tune.dense: {halves[0]}: expected float32 or bfloat16 of weights that are trained, got float16; "
            '"freeze" trains the gates alone'
        )
        raise fault("validation_failed", "/fine_tune/dense", detail)
    if wish.batch_size == 1 or len(samples) == 1:
        _require_single(wish, model, samples[:1])


def _require_single(wish: FineTuneSettings, model: nn.Module, sample: Tensor) -> None:
    """Refuse steps of one sample where the model cannot take one in training."""
    device = next(model.parameters()).device
    with (
        torch.no_grad(),
        trainable(model, wish.dense),
        buffers_restored(model),
        torch.random.fork_rng(devices_with_generators(device), device_type=device.type),
    ):
        try:
            model(sample.to(device))
        except ValueError as error:
            detail = f'fine_tune.batch_size: expected steps of more than one sample, or dense "freeze": {error}'
            raise fault("validation_failed", "/fine_tune/batch_size", detail) from error
