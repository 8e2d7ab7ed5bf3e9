"""The options of fine-tuning."""

from dataclasses import dataclass
from typing import get_args

from adtn.feeding import Transform
from adtn.freezing import Dense
from adtn.losses import Classes
from adtn.precision import Precision
from adtn.schedules import ScheduleName


@dataclass(frozen=True)
class FineTuneOptions:
    """How a compressed model is fine-tuned.

    Args:
        epochs: Passes over the training data; 0 leaves the model as it is.
        learning_rate: Of what stayed dense, at its peak.
        gate_learning_rate: Of the gates; None is 8 times `learning_rate`, and less for an ADTN of several TN layers or
            many numbers (see `gate_rate`).
        batch_size: Samples a step.
        schedule: "cosine" (a short linear warm-up, then down to zero) or "one_cycle" (up for 30 % of the steps).
        distill: Whether the outputs of the teacher are imitated, where there is one.
        temperature: Of the softened outputs that are compared.
        classes: Whether the model's outputs are logits of one softmax, or each of a sigmoid of its own.
        seed: Of the order of the samples, of dropout and of `transform`.
        gate_bits: Gates become integers of so many bits, 2 to 8. The rounding is phased in while they are trained; in
            the last tenth of the steps, what is trained is what is stored. With 0 epochs they are rounded all the same.
            None leaves each ADTN as it is.
        natural_epochs: The last epochs, in which steps follow the natural gradient (see `adtn.natural`) with batches of
            their own size. They get further than Adam's and take several times as long; for models with few trained
            numbers only. With `gate_bits` gates are rounded during these epochs alone, one after the other.
        dense: "train" trains what stayed dense too. "freeze" leaves it as it is, biases of encoded layers and running
            statistics included, and trains the gates alone.
        accumulate: Micro-batches into which the samples of a step are cut. The gradient is that of the whole batch, but
            for batch norm, which sees one micro-batch at a time; activations take the memory of one.
        precision: "bfloat16" lets the network's own layers compute in it where torch holds that to be safe. Gates,
            decoding, losses and the optimiser's state stay as they are.
        transform: Changes the inputs of each step at random, (B, ...) on the model's device to as many; the generator
            is on the CPU and starts from `seed`.
        cache_bytes: Most bytes of disk for activations that need be computed only once; see `fine_tune`. 0 keeps none.

    Raises:
        ValueError: A word is none of those above, or a count is too small.
    """

    epochs: int = 3
    learning_rate: float = 0.005
    gate_learning_rate: float | None = None
    batch_size: int = 256
    schedule: ScheduleName = "cosine"
    distill: bool = True
    temperature: float = 2.0
    classes: Classes = "exclusive"
    seed: int = 0
    gate_bits: int | None = None
    natural_epochs: int = 0
    dense: Dense = "train"
    accumulate: int = 1
    precision: Precision = "float32"
    transform: Transform | None = None
    cache_bytes: int = 4 * 2**30

    def __post_init__(self) -> None:
        words = {"schedule": ScheduleName, "classes": Classes, "dense": Dense, "precision": Precision}
        for name, allowed in words.items():
            if getattr(self, name) not in get_args(allowed):
                raise ValueError(f"{name}: expected one of {', '.join(get_args(allowed))}, got {getattr(self, name)!r}")
        for name, least in {"epochs": 0, "batch_size": 1, "accumulate": 1}.items():
            if getattr(self, name) < least:
                raise ValueError(f"{name}: expected at least {least}, got {getattr(self, name)}")
