"""One trial of a search."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Trial:
    """One size and what it came to.

    Attributes:
        parameters: Numbers of the whole model.
        ratio: How many times smaller it is.
        encoded_parameters: Numbers of the encoded layers.
        heldout_accuracy: Share of the held-out samples that are right; None if training diverged.
        drop: Percentage points below the original on the same samples, or, if fine-tuned, below the original trained
            further likewise; None likewise.
        seconds: That the trial took.
        kept: Whether it keeps the promise.
        loss_rose: Whether training made it worse.
        fine_tuned: Whether it counts as it was trained; False where it is better as it was fitted.
    """

    parameters: int
    ratio: float
    encoded_parameters: int
    heldout_accuracy: float | None
    drop: float | None
    seconds: float
    kept: bool
    loss_rose: bool
    fine_tuned: bool

    def __str__(self) -> str:
        size = f"{self.parameters:,} numbers (a ratio of {self.ratio:g})"
        if self.drop is None:
            return f"{size}: training diverged"
        return f"{size}: {self.drop:g} points below" + (", and training made it worse" if self.loss_rose else "")
