"""Jobs on the wire, and what belongs to one: events, artifacts, estimates."""

from typing import Any, Literal

from pydantic import BaseModel, Field

from jobs.schemas.common import Time
from jobs.schemas.problems import Problem
from jobs.schemas.settings import JobSettings
from jobs.states import JobStatus, Stage


class JobProgress(BaseModel):
    """How far a job is."""

    fraction: float = Field(description="Of the whole job, 0 to 1.")
    stage: Stage | None
    stage_fraction: float | None
    eta_seconds: float | None
    message: str | None


class Artifact(BaseModel):
    """A file that a job produced."""

    name: str
    kind: str
    bytes: int
    sha256: str
    url: str


class Job(BaseModel):
    """A compression and how far it is."""

    id: str
    object: Literal["job"] = "job"
    status: JobStatus
    stage: Stage | None
    progress: JobProgress
    queue_position: int | None = Field(description="1 for the next to run; null unless queued.")
    attempt: int
    created_at: Time
    started_at: Time | None
    finished_at: Time | None
    request: JobSettings
    error: Problem | None
    report: dict[str, Any] | None
    artifacts: list[Artifact]
    retried_from: str | None


class Event(BaseModel):
    """Something that happened to a job."""

    id: str
    object: Literal["event"] = "event"
    sequence: int
    type: str
    created_at: Time
    data: dict[str, Any]


class EstimatedLayer(BaseModel):
    """A layer that would be encoded."""

    name: str
    kind: str
    shape: list[int]
    original: int
    compressed: int
    original_bytes: int
    compressed_bytes: int
    structure: dict[str, Any]


class EstimatedSize(BaseModel):
    """Numbers or bytes before and after."""

    original: int
    compressed: int
    ratio: float


class EstimatedSearch(BaseModel):
    """The sizes among which a search for an accuracy finds the smallest that keeps it."""

    smallest: EstimatedSize = Field(description="Of the whole model, as in the report's trials.")
    largest: EstimatedSize
    trials: int = Field(description="At most; each halves the sizes that remain, and those left over look once more.")
    seconds_a_trial: float = Field(
        description="Of the size with which the search begins: its fit, its training, and the held-out samples' passes."
    )
    max_seconds: float = Field(
        description="The cap on the whole search: measuring layers, the original and the control on held-out samples, "
        "and all trials."
    )


class EstimatedFineTuning(BaseModel):
    """The training of the compressed model."""

    trained_parameters: int = Field(description="Numbers that are trained: of the gates, and of what stayed dense.")
    kept_layers: list[str] = Field(
        description='With `dense` "freeze": layers before the first encoded one, whose outputs are computed once. '
        "Empty where the architecture is not known, and with `augment`."
    )
    cached_bytes: int | None = Field(
        description="Of these outputs on the worker's disk; null where they depend on more than the weights' shapes."
    )


class Estimate(BaseModel):
    """What a job would come to. What `rough` does not name is exact."""

    object: Literal["estimate"] = "estimate"
    layers: list[EstimatedLayer]
    skipped: list[str] = Field(description="Layers that stay dense: of those asked for, or of all where none is named.")
    parameters: EstimatedSize = Field(description="Of the encoded layers together.")
    bytes: EstimatedSize = Field(
        description="Of the encoded layers together: of their gates in the artifact. An upper bound with `gate_bits`."
    )
    seconds: float = Field(
        description="Rough, on two CPU cores; where the data are known, fine-tuning is counted and every evaluation: "
        "of the models, of each artifact that is verified, and of trials."
    )
    memory_bytes: int = Field(description="Rough peak of the worker, with the process that verifies its artifacts.")
    rough: list[str] = Field(description="Which of these values are rough.")
    search: EstimatedSearch | None = Field(
        default=None, description="Where an accuracy is asked for: sizes above are then those of the largest trial."
    )
    fine_tuning: EstimatedFineTuning | None = Field(default=None, description="Null without data and without epochs.")
    notes: list[str] = Field(
        default=[], description="What is assumed, and why what cannot be known before the job is not."
    )
