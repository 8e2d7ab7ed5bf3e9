"""One run: what is fitted, trained and measured."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from adtn.natural import Pace
from bench.accuracy.factors import Form, total

Stage = Literal["validation", "test"]
PROTOCOL = 2
"""Raised with every change of the fit or the training, so that runs stored before are not taken for these."""
_LATER = ("natural_epochs", "crop", "teacher_epochs", "pace")
"""What the first runs knew nothing of: it is part of a run only where it is neither 0 nor None."""


@dataclass(frozen=True)
class Task:
    """A run.

    Args:
        stage: On which images it is measured.
        method: Name of the method.
        recipe: Name of its recipe.
        forms: Of each layer, as the recipe has them.
        budget: Numbers that the layers may have.
        seed: Of the baseline, the start and the order of the images.
        rate: Learning rate of the factors.
        epochs: Of training in all.
        images: Of each part of the data in a trial; None for all.
        bits: In which each number is trained and stored; None for floats.
        problem: Name of what is learned.
        natural_epochs: The last epochs, in which steps follow the natural gradient.
        crop: Pixels by which images are moved at random, at most, in each step.
        teacher_epochs: The first of the epochs, in which the baseline is trained further before it is compressed.
        pace: Of the steps along the natural gradient; None for that of the first runs, `FIRST_PACE`.
    """

    stage: Stage
    method: str
    recipe: str
    forms: Mapping[str, Form]
    budget: int
    seed: int
    rate: float
    epochs: int
    images: int | None
    bits: int | None = None
    problem: str = "mnist"
    natural_epochs: int = 0
    crop: int = 0
    teacher_epochs: int = 0
    pace: Pace | None = None

    @property
    def numbers(self) -> int:
        """Numbers stored."""
        return total(list(self.forms.values()))

    def to_json(self) -> dict[str, Any]:
        """The run as JSON-compatible data."""
        return {
            **{name: value for name, value in vars(self).items() if name not in {"forms", *_LATER}},
            **{name: vars(self)[name] for name in _LATER if vars(self)[name]},
            "numbers": self.numbers,
            "forms": {layer: form.describe() for layer, form in self.forms.items()},
        }

    @property
    def key(self) -> str:
        """The same for runs that give the same result, whatever the recipe is called."""
        data = {name: value for name, value in self.to_json().items() if name != "recipe"}
        if self.problem == "mnist":  # the only one at first: its runs keep their keys
            del data["problem"]
        text = json.dumps({"protocol": PROTOCOL, **data}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def __str__(self) -> str:
        return (
            f"{self.stage} {self.method} ({self.recipe}), {self.numbers} of {self.budget} numbers, "
            f"rate {self.rate:g}, seed {self.seed}" + ("" if self.bits is None else f", {self.bits} bits")
        )
