"""The report of a job on the wire. Workers may add to it, so fields that are not named here are kept."""

from typing import Any

from pydantic import BaseModel, ConfigDict


class _Open(BaseModel):
    model_config = ConfigDict(extra="allow")


class Accuracy(_Open):
    """Share of right answers on the test split; null where there were no data."""

    metric: str | None = None
    baseline: float | None = None
    after_fit: float | None = None
    final: float | None = None
    samples: int | None = None


class ReportedLayer(_Open):
    """A weight that was encoded."""

    name: str
    kind: str
    shape: list[int]
    original: int
    compressed: int
    relative_error: float | None
    structure: dict[str, Any]


class Counts(_Open):
    """Numbers before and after."""

    original: int
    compressed: int
    ratio: float


class Parameters(Counts):
    """Numbers of the whole model, of the encoded weights together, and of each."""

    encoded: Counts
    layers: list[ReportedLayer]


class Report(_Open):
    """What a job came to; every count is of numbers in the written file."""

    accuracy: Accuracy | None = None
    accuracy_unverified: bool = False
    parameters: Parameters
    bytes: dict[str, Any]
    latency_ms: dict[str, Any] | None = None
    seconds: dict[str, float]
    settings: dict[str, Any]
    seed: int
    fingerprint: str
    environment: dict[str, Any]
    verified: dict[str, Any] | None = None
