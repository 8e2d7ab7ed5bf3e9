"""Files on the wire."""

from typing import Any, Literal

from pydantic import BaseModel, Field

from jobs.schemas.common import Time
from jobs.schemas.problems import Problem
from jobs.states import FileStatus, Purpose


class File(BaseModel):
    """An upload."""

    id: str
    object: Literal["file"] = "file"
    filename: str
    purpose: Purpose
    bytes: int
    sha256: str
    format: str | None = Field(description="Known once the file was inspected.")
    status: FileStatus
    error: Problem | None
    summary: dict[str, Any] | None = Field(
        description="Of a checkpoint: parameters, layers, notes, and key_prefix: what wrappers such as nn.DataParallel "
        "put before every key, left out of the names of layers and kept in the artifacts. Of a data set: splits, shape "
        "(null for sizes that differ), classes, dtype, class_names (the first 100, where they are known), notes."
    )
    created_at: Time
    expires_at: Time | None


class FileLayer(BaseModel):
    """A tensor of a checkpoint that has two or more dimensions."""

    name: str
    kind: str
    shape: list[int]
    dtype: str
    parameters: int
    eligible: bool
    reason: str | None = Field(description="Why it cannot be encoded.")
    predicted_parameters: int | None = Field(
        description="The most numbers that are stored for it by a job without a target that leaves the structure to "
        "the planner: those of a brick-wall of two TN layers. Of the structures with no more numbers the planner takes "
        "the one that it prefers, which has as many or somewhat fewer; `POST /v1/jobs/estimate` says how many. "
        "Null where not eligible."
    )
