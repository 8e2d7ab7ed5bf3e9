"""The report of a job on the wire. Workers may add to it, so fields that are not named here are kept."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field


class _Open(BaseModel):
    model_config = ConfigDict(extra="allow")


class Change(_Open):
    """How the accuracy changed from the original to the compressed model; both saw the same samples."""

    points: float = Field(description="Percentage points; below 0 the compressed model is worse.")
    interval: list[float] = Field(
        description="The ends of its 95 % confidence interval, in points (paired; Bonett and Price, 2012)."
    )
    lost: int = Field(description="Samples that only the original answers rightly.")
    won: int = Field(description="Samples that only the compressed model answers rightly.")


class Accuracy(_Open):
    """Share of right answers on the test split; null where there were no data."""

    metric: str | None = None
    baseline: float | None = None
    teacher: float | None = Field(
        default=None, description="Of the original after `teacher_epochs` of further training; null without any."
    )
    after_fit: float | None = None
    final: float | None = None
    samples: int | None = None
    interval_95: dict[str, list[float]] | None = Field(
        default=None, description="For each accuracy the ends of its 95 % confidence interval (Wilson)."
    )
    change: Change | None = Field(default=None, description="Null in the reports of older workers.")


class ReportedPart(_Open):
    """One of the weights of a group."""

    name: str
    shape: list[int]


class ReportedLayer(_Open):
    """A weight that was encoded, or a group of weights that are one network."""

    name: str
    kind: str
    shape: list[int]
    parts: list[ReportedPart] = Field(default=[], description="Of a group: the weights, in the order they are joined.")
    original: int
    compressed: int
    relative_error: float | None = Field(
        description="Of the weight after the fit; where gates are rounded without any training, of the rounded one."
    )
    structure: dict[str, Any]
    bits: int | None = Field(default=None, description="Of each stored number of the gates; null: floats.")
    bytes: int | None = Field(default=None, description="Of the gates in the artifact `adtn`, without its header.")


class Skipped(_Open):
    """A weight that stayed dense."""

    name: str
    reason: str


class Counts(_Open):
    """Numbers before and after."""

    original: int
    compressed: int
    ratio: float


class Parameters(Counts):
    """Numbers of the whole model, of the encoded weights together, and of each."""

    encoded: Counts
    layers: list[ReportedLayer]
    skipped: list[Skipped] = Field(default=[], description="What was looked at and stayed dense.")


class Trial(_Open):
    """A size that a search tried."""

    parameters: int = Field(description="Of the whole model.")
    ratio: float
    encoded_parameters: int
    heldout_accuracy: float | None = Field(description="Null where training diverged.")
    drop: float | None = Field(
        description="Percentage points below the original on the same samples, fine-tuned ones below the control."
    )
    seconds: float
    kept: bool = Field(description="Whether the drop is within the target.")
    loss_rose: bool = Field(description="Whether training made it worse, as with a learning rate that is too high.")
    collapsed: bool = Field(
        default=False,
        description="Whether training came to nothing: it diverged, or the loss rose and the model is right on hardly "
        "more samples than are of the commonest class.",
    )
    fine_tuned: bool = Field(description="False where it is better as it was fitted, and is left so.")


class Search(_Open):
    """The search for the smallest model that keeps the accuracy, on samples that were held out."""

    max_accuracy_drop: float
    baseline_heldout_accuracy: float
    control_heldout_accuracy: float | None = Field(
        default=None,
        description="Of the original without what it knows of these samples by heart, as a copy tells that was trained "
        "further on the others: fine-tuned trials are compared with it. The original as it is where a validation split "
        "was held out. Null in the reports of older workers alone.",
    )
    control_harmed: bool = Field(
        default=False, description="Whether training made that copy worse on what it was trained on too."
    )
    commonest_heldout_share: float | None = Field(
        default=None,
        description="Of the held-out samples, those of the commonest of their classes: what a constant answer is right "
        "on. Null in the reports of older workers.",
    )
    heldout_samples: int
    heldout_split: Literal["train", "val"] = Field(
        default="train", description="Where they are from: the training data, or a validation split of its own."
    )
    trials: list[Trial]
    ended_by: Literal["sizes", "trials", "minutes"] | None = Field(
        default=None,
        description="What ended the search: the bisection of the sizes was done, or it was the cap on trials or on "
        "minutes. Null in the reports of older workers.",
    )
    smaller_untried: int = Field(
        default=0,
        description="Smaller sizes that might keep the accuracy too and were not tried: above any that lost more.",
    )


class FineTuning(_Open):
    """What the training of the compressed model took."""

    samples: int = Field(description="Trained on, in all epochs together.")
    samples_per_second: float = Field(description="Of the steps, without what is computed before the first.")
    preparation_seconds: float = Field(description="Of the original's outputs, and of activations that are kept.")
    cached_bytes: int = Field(description="Of activations that stay the same and were computed only once; 0: none.")
    not_cached: str | None = Field(description="Why there are none.")


class ReadCheckpoint(_Open):
    """How the checkpoint was read."""

    format: str | None
    key_prefix: str = Field(
        description="Of wrappers such as nn.DataParallel: stands before every key of the artifacts, and is left out of "
        "the names of layers."
    )
    notes: list[str] = Field(description="Where the weights were in the file, and what was left out.")


class ReadDataset(_Open):
    """Which samples there were, and how an upload was read."""

    format: str = Field(description="Of the uploaded file, or the name of the data.")
    samples: dict[str, int] = Field(description="How many each split has.")
    notes: list[str] = Field(description="How an upload was split, and what of it is not used.")


class Warned(_Open):
    """What the reader should know before relying on the numbers."""

    code: str
    detail: str


class Report(_Open):
    """What a job came to; every count is of numbers in the written file."""

    accuracy: Accuracy | None = None
    accuracy_unverified: bool = False
    parameters: Parameters
    checkpoint: ReadCheckpoint | None = None
    dataset: ReadDataset | None = Field(
        default=None, description="Null without data, and in the reports of older workers."
    )
    search: Search | None = None
    sensitivity: dict[str, Any] | None = Field(
        default=None, description="Loss of each layer encoded alone, at the sizes at which it was measured."
    )
    warnings: list[Warned] = []
    bytes: dict[str, Any] = Field(
        description="Of the checkpoint's file, of its tensors that are the model, of each artifact, and of the encoded "
        "weights together, dense and as gates."
    )
    latency_ms: dict[str, Any] | None = None
    seconds: dict[str, float] = Field(
        description="By stage, of the attempt that succeeded; fits that were found as they had been kept took none."
    )
    fine_tuning: FineTuning | None = Field(default=None, description="Null where nothing was trained.")
    settings: dict[str, Any]
    seed: int
    fingerprint: str
    environment: dict[str, Any]
    verified: dict[str, Any] | None = None
