"""Schedules: of learning rates, and of rounding."""

import math
from typing import Literal

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, OneCycleLR

ScheduleName = Literal["cosine", "one_cycle"]

WARM_UP_FRACTION = 0.1
PHASE_IN_FRACTION = 0.9
RESCALE_FRACTION = 0.7
_RESCALED = 80
"""How often scales would be chosen in all steps."""


def cosine(step: int, steps: int) -> float:
    """From 1 at step 0 down to 0 at `steps`, along half a cosine."""
    return 0.5 * (1 + math.cos(math.pi * step / steps))


def warm_cosine(step: int, steps: int) -> float:
    """Up to 1 along a line in the first tenth of the steps, then down to 0 at `steps` along half a cosine."""
    warm_up = int(WARM_UP_FRACTION * steps)
    if step < warm_up:
        return (step + 1) / (warm_up + 1)
    return cosine(step - warm_up, max(1, steps - warm_up))


def phased_in(step: int, steps: int) -> float:
    """Up along a line to 1 in the first nine tenths of the steps, then 1.

    With coarse rounding from the start, each step at the high rates of the beginning makes many numbers jump, and they
    find nothing to settle on; with rounding late, too few steps are left to make up for it.
    """
    return min(1.0, (step + 1) / max(1.0, PHASE_IN_FRACTION * steps))


def rescales(step: int, steps: int) -> bool:
    """Whether the scales of the rounding are chosen anew: now and then in the first seven tenths of the steps.

    Gates move far at the high rates of the beginning. Scales chosen before would clip them; those chosen last are kept,
    so that there is something to settle on.
    """
    return 0 < step < RESCALE_FRACTION * steps and step % max(1, steps // _RESCALED) == 0


def scheduler(name: ScheduleName, optimiser: Optimizer, steps: int) -> LRScheduler:
    """The schedule that scales the learning rate of every parameter group over `steps` steps.

    Args:
        name: "cosine" is `warm_cosine`; "one_cycle" is torch's OneCycleLR with the groups' rates as its peaks.
        optimiser: Whose rates.
        steps: Their number, at least 1.
    """
    if name == "one_cycle":
        return OneCycleLR(optimiser, [group["lr"] for group in optimiser.param_groups], total_steps=steps)
    return LambdaLR(optimiser, lambda step: warm_cosine(step, steps))
