"""What a user may ask of a job. Every knob has a default, or accepts "auto"."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, StringConstraints, field_validator, model_validator

from jobs.schemas.common import Request

Auto = Literal["auto"]
Activation = Literal["none", "relu", "leaky_relu", "tanh", "gelu"]
Export = Literal["adtn", "dense"]
LearningRate = Annotated[float, Field(gt=0, le=100)]
LayerName = Annotated[str, StringConstraints(min_length=1, max_length=512)]
FileId = Annotated[str, StringConstraints(pattern=r"^file_[0-9a-f]{32}$")]
# Names end up in logs and pages: no control characters.
Name = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f-\x9f]*$")]
MetadataKey = Annotated[str, StringConstraints(min_length=1, max_length=64)]
MetadataValue = Annotated[str, StringConstraints(max_length=512)]


class StructureSettings(Request):
    """The structure of each ADTN; "auto" leaves a value to the planner."""

    depth: Annotated[int, Field(ge=1, le=64)] | Auto = "auto"
    gate_sites: Annotated[int, Field(ge=2, le=8)] | Auto = "auto"
    activation: Activation = "relu"


class TargetSettings(Request):
    """The size to reach, of the encoded layers together: exactly one of the two."""

    parameters: Annotated[int, Field(ge=1, le=10**12)] | None = None
    ratio: Annotated[float, Field(gt=1, le=10**12)] | None = None

    @model_validator(mode="before")
    @classmethod
    def _refuse_what_comes_later(cls, values: Any) -> Any:
        if isinstance(values, dict) and "max_accuracy_drop" in values:
            raise ValueError("max_accuracy_drop is not supported yet; expected parameters or ratio")
        return values

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        if (self.parameters is None) == (self.ratio is None):
            raise ValueError("expected exactly one of parameters and ratio")
        return self


class CompressionSettings(Request):
    """Which layers are encoded, and how."""

    layers: Annotated[list[LayerName], Field(min_length=1, max_length=1000)] | Auto = "auto"
    structure: StructureSettings = Field(default_factory=StructureSettings)
    target: TargetSettings | None = None


class FitSettings(Request):
    """How each ADTN is fitted to its weight."""

    steps: int = Field(default=200, ge=0, le=100_000)
    learning_rate: LearningRate = 0.02


class FineTuneSettings(Request):
    """How the compressed model is trained on the data set."""

    epochs: int = Field(default=3, ge=0, le=1000)
    learning_rate: LearningRate = 0.005
    gate_learning_rate: LearningRate | Auto = "auto"
    batch_size: int = Field(default=256, ge=1, le=65_536)
    schedule: Literal["cosine", "one_cycle"] = "cosine"
    distill: bool = True
    temperature: float = Field(default=2.0, gt=0, le=100)


class NormalizeSettings(Request):
    """Mean and standard deviation of each channel, applied after 8-bit values are scaled to [0, 1]."""

    mean: list[Annotated[float, Field(ge=-1e6, le=1e6)]] = Field(min_length=1, max_length=1024)
    std: list[Annotated[float, Field(gt=0, le=1e6)]] = Field(min_length=1, max_length=1024)

    @model_validator(mode="after")
    def _same_length(self) -> Self:
        if len(self.mean) != len(self.std):
            raise ValueError(f"expected as many values in std as in mean ({len(self.mean)}), got {len(self.std)}")
        return self


class JobSettings(Request):
    """All that a job does follows from these and from the files that they name."""

    checkpoint: FileId
    architecture: Annotated[str, StringConstraints(min_length=1, max_length=64)] | None = None
    dataset: Annotated[str, StringConstraints(min_length=1, max_length=64)] | None = None
    compression: CompressionSettings = Field(default_factory=CompressionSettings)
    fit: FitSettings = Field(default_factory=FitSettings)
    fine_tune: FineTuneSettings = Field(default_factory=FineTuneSettings)
    normalize: NormalizeSettings | None = None
    exports: list[Export] = Field(default=["adtn", "dense"], min_length=1, max_length=2)
    seed: int = Field(default=0, ge=0, le=2**32 - 1)
    name: Name | None = None
    metadata: dict[MetadataKey, MetadataValue] = Field(default={}, max_length=16)

    @field_validator("exports")
    @classmethod
    def _each_once(cls, exports: list[Export]) -> list[Export]:
        if len(set(exports)) < len(exports):
            raise ValueError(f"expected each export once, got {', '.join(exports)}")
        return exports
