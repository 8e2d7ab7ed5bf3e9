"""What the child answers, and the strict check of it: the child may be in the hands of the file it read."""

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, field_validator

from jobs.problems import PROBLEMS, Fault, ProblemError
from worker.sandbox.contents import MAX_CLASS_NAME, MAX_CLASS_NAMES
from worker.sandbox.prefixes import PREFIX
from worker.sandbox.refusal import MAX_FAULTS, MAX_TEXT
from worker.sandbox.tensor_file import MAX_DIMS, MAX_TENSORS, NAME

MAX_ANSWER_BYTES = 64 * 2**20
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029]")


def _clean(text: str) -> str:
    """Text without control characters: it ends up in logs, terminals and pages."""
    return CONTROL.sub("?", text)


Name = Annotated[str, Field(max_length=512, pattern=f"^(?:{NAME.pattern})$")]
Prefix = Annotated[str, Field(max_length=512, pattern=PREFIX)]
Text = Annotated[str, Field(max_length=MAX_TEXT), AfterValidator(_clean)]
ClassName = Annotated[str, Field(max_length=MAX_CLASS_NAME), AfterValidator(_clean)]
Count = Annotated[int, Field(ge=0, le=2**60)]
Shape = Annotated[list[Count], Field(max_length=MAX_DIMS)]


class Strict(BaseModel):
    """Base: no unknown fields, no conversions."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class LayerRow(Strict):
    """One layer of a checkpoint: the fields of `adtn.plan.Layer`, with the dtype and the numbers it holds."""

    name: Name
    key: Name
    kind: Annotated[str, Field(max_length=40)]
    shape: Shape
    eligible: bool
    reason: Text | None
    dtype: Annotated[str, Field(max_length=20)]
    parameters: Count


class CheckpointSummary(Strict):
    """Summary of a checkpoint: parameters (tied ones once, no buffers), layers, and what was changed in reading.

    `key_prefix` stood before every key in the upload.
    """

    parameters: Count
    layers: Count
    key_prefix: Prefix
    notes: Annotated[list[Text], Field(max_length=100)]


class DatasetSummary(Strict):
    """Summary of a data set: samples of each split, shape of a sample, number of classes, dtype of the samples.

    Sizes in which samples differ are None. The first names of classes, where they are known; how the file was read.
    """

    splits: dict[Literal["train", "val", "test"], Count]
    shape: Annotated[list[Count | None], Field(max_length=MAX_DIMS)]
    classes: Count
    dtype: Literal["uint8", "float32"]
    class_names: Annotated[list[ClassName], Field(max_length=MAX_CLASS_NAMES)] = []
    notes: Annotated[list[Text], Field(max_length=100)] = []


class Answer(Strict):
    """What was read, or the problem that refuses it."""

    format: Annotated[str, Field(max_length=20, pattern="^[a-z_]+$")]
    summary: CheckpointSummary | DatasetSummary
    layers: Annotated[list[LayerRow], Field(max_length=MAX_TENSORS)]
    aliases: dict[Name, Name]


class FaultRow(Strict):
    """A `jobs.problems.Fault` as JSON."""

    pointer: Text
    detail: Text
    code: Annotated[str, Field(max_length=60)]


class Refusal(Strict):
    """A `jobs.problems.ProblemError` as JSON."""

    code: str
    detail: Text
    errors: Annotated[list[FaultRow], Field(max_length=MAX_FAULTS)]

    @field_validator("code")
    @classmethod
    def _known(cls, code: str) -> str:
        if code not in PROBLEMS:
            raise ValueError("unknown code")
        return code


class Reply(Strict):
    """The child's whole answer: exactly one of the two."""

    answer: Answer | None = None
    refusal: Refusal | None = None


def parse(text: bytes) -> Answer:
    """The child's answer, checked.

    Raises:
        ProblemError: The child refused the file.
        ValueError: The text is not such an answer.
    """
    try:
        reply = Reply.model_validate_json(text)
    except ValidationError as error:
        raise ValueError(f"the sandbox's answer is not valid: {error.error_count()} faults") from None
    if reply.refusal is not None:
        faults = [Fault(row.pointer, row.detail, row.code) for row in reply.refusal.errors]
        raise ProblemError(reply.refusal.code, reply.refusal.detail, faults)
    if reply.answer is None:
        raise ValueError("the sandbox's answer is empty")
    return reply.answer
