"""What a user may ask of a job. Every knob has a default, or accepts "auto"."""

import json
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import Discriminator, Field, JsonValue, StringConstraints, Tag, field_validator, model_validator

from adtn.limits import MOST_NATURAL_NUMBERS
from jobs.schemas.common import Request

Auto = Literal["auto"]
Activation = Literal["none", "relu", "leaky_relu", "tanh", "gelu"]
Export = Literal["adtn", "dense", "dense_pt", "onnx", "pt2"]
Schedule = Literal["cosine", "one_cycle"]
Dense = Literal["train", "freeze"]
Precision = Literal["float32", "bfloat16"]
LearningRate = Annotated[float, Field(gt=0, le=100)]
LayerName = Annotated[str, StringConstraints(min_length=1, max_length=512)]
FileId = Annotated[str, StringConstraints(pattern=r"^file_[0-9a-f]{32}$")]
# Names end up in logs and pages: no control characters.
Name = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f-\x9f]*$")]
LABELS = ("id2label", "label2id")
"""Fields of a config that name the classes: they may be most of it, and no model needs them."""
MAX_CONFIG_CHARACTERS = 65_536

MetadataKey = Annotated[str, StringConstraints(min_length=1, max_length=64)]
MetadataValue = Annotated[str, StringConstraints(max_length=512)]


class StructureSettings(Request):
    """A brick-wall for each weight; "auto" leaves a value to the planner."""

    depth: Annotated[int, Field(ge=1, le=64)] | Auto = Field(
        default="auto", description="TN layers: how many rows of gates lie one upon the other."
    )
    gate_sites: Annotated[int, Field(ge=2, le=8)] | Auto = Field(
        default="auto", description="Neighbouring sites that each gate acts on."
    )
    activation: Activation = Field(default="relu", description="Between TN layers.")


MOST_NAMES = 10_000
MOST_PATTERNS = 100
"""Of layers, in the settings of a new job: each pattern is compared with every layer."""


def _kind_of_structure(value: Any) -> str:
    return "auto" if isinstance(value, str) else "structure"


def _kind_of_layers(value: Any) -> str:
    return "group" if isinstance(value, list) else "layer"


# Told apart by hand, so that a fault within one kind is not reported as a fault of the other too.
LayerOrGroup = Annotated[
    Annotated[LayerName, Tag("layer")] | Annotated[list[LayerName], Field(min_length=1, max_length=1000), Tag("group")],
    Discriminator(_kind_of_layers),
]
StructureOrAuto = Annotated[
    Annotated[StructureSettings, Tag("structure")] | Annotated[Auto, Tag("auto")], Discriminator(_kind_of_structure)
]


class TargetSettings(Request):
    """What to reach: exactly one of the three."""

    parameters: Annotated[int, Field(ge=1, le=10**12)] | None = Field(
        default=None, description="Numbers of the encoded layers together, at most."
    )
    ratio: Annotated[float, Field(gt=1, le=10**12)] | None = Field(
        default=None, description="Dense entries of the encoded layers / numbers stored for them, at least."
    )
    max_accuracy_drop: Annotated[float, Field(ge=0, le=100)] | None = Field(
        default=None,
        description="Percentage points of accuracy that may be lost on held-out data: the smallest model that "
        "keeps this is searched for. Needs a data set.",
    )

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        if [self.parameters, self.ratio, self.max_accuracy_drop].count(None) != 2:
            raise ValueError("expected exactly one of parameters, ratio and max_accuracy_drop")
        return self


class CompressionSettings(Request):
    """Which layers are encoded, and how."""

    layers: Annotated[list[LayerOrGroup], Field(min_length=1, max_length=1000)] | Auto = Field(
        default="auto",
        description=f"Names, keys or glob patterns, {MOST_NAMES:,} at most, of which {MOST_PATTERNS} patterns; a list "
        "of them within the list is a group whose weights, joined, are one network. "
        'With "auto" and a target, a layer may stay dense, and then counts towards the target.',
    )
    structure: StructureOrAuto = Field(
        default="auto",
        description='With "auto" and a target, the worker measures each layer at a few sizes and spends the numbers '
        "where they matter. An object: a brick-wall of that form for each layer, the paper's own.",
    )
    target: TargetSettings | None = Field(
        default=None,
        description="Null: about as many numbers for each layer as two TN layers of two-site gates have.",
    )
    gate_bits: Annotated[int, Field(ge=2, le=8)] | None = Field(
        default=None,
        description="Store each number of the gates as an entropy-coded integer of so many bits; fine-tuning trains "
        "with this rounding. Null: as floats.",
    )


class SearchSettings(Request):
    """Caps of the search for `max_accuracy_drop`; with other targets, measuring layers may take half of the time."""

    max_trials: int = Field(default=8, ge=1, le=64, description="Sizes that are tried, each as a whole job does it.")
    max_minutes: float = Field(
        default=30.0,
        gt=0,
        le=7 * 24 * 60,
        description="Of the whole search: of measuring the layers, the control and all trials together. The trial that "
        "runs when they are over is dropped. A search may have three quarters of the server's `ADTN_TASK_LIMIT_S` at "
        "most. With `parameters` or `ratio`, measuring may take half of these minutes.",
    )


class FitSettings(Request):
    """How each ADTN is fitted to its weight."""

    steps: int = Field(default=200, ge=0, le=100_000, description="Of Adam, for each weight.")
    learning_rate: LearningRate = Field(default=0.02, description="At its peak.")


class FineTuneSettings(Request):
    """How the compressed model is trained on the data set."""

    epochs: int = Field(default=3, ge=0, le=1000, description="Passes over the training samples. 0: the fit alone.")
    learning_rate: LearningRate = Field(default=0.005, description="Of what stayed dense, at its peak.")
    gate_learning_rate: LearningRate | Auto = Field(
        default="auto",
        description="Of the gates. `auto` is 8 times `learning_rate`, and less for many numbers, more TN layers and "
        "larger gates. Where an epoch has few steps (small data, large batches), about `learning_rate` is better.",
    )
    batch_size: int = Field(default=256, ge=1, le=65_536, description="Samples of a step.")
    natural_epochs: int = Field(
        default=0,
        ge=0,
        le=1000,
        description="The last epochs, in which steps follow the natural gradient instead of Adam's: better for models "
        f"with few trained numbers ({MOST_NATURAL_NUMBERS:,} at most, gates and what stayed dense together), and "
        "several times as long. Batches are as large as these steps need. Not with `max_accuracy_drop`.",
    )
    teacher_epochs: int = Field(
        default=0,
        ge=0,
        le=1000,
        description="Epochs of training the original further before it is compressed and imitated, with the same "
        "learning rate, batches and `augment`: what it lacks on these samples the compressed model would lack too. A "
        "search trains it without the held-out samples. Not with frozen dense weights.",
    )
    schedule: Schedule = Field(default="cosine", description="How rates fall: `cosine` or `one_cycle`.")
    distill: bool = Field(default=True, description="Imitate the outputs of the original too, besides the labels.")
    temperature: float = Field(default=2.0, gt=0, le=100, description="Softens the outputs that are imitated.")
    dense: Dense = Field(
        default="train",
        description='"freeze" trains the gates alone: what stayed dense is as the fit has left it, which with data '
        "shifts the biases of encoded layers by the mean of their error. Layers before the first encoded one are then "
        "computed only once.",
    )
    accumulate: int = Field(
        default=1, ge=1, le=1024, description="Micro-batches of a step: less memory for the same gradient."
    )
    precision: Precision = Field(
        default="float32",
        description="Of the network's own layers in training; gates and what is stored keep theirs.",
    )

    @model_validator(mode="after")
    def _natural_epochs_are_among_all(self) -> Self:
        if self.natural_epochs > self.epochs:
            raise ValueError(f"expected natural_epochs of at most epochs ({self.epochs}), got {self.natural_epochs}")
        return self

    @model_validator(mode="after")
    def _what_is_frozen_is_not_trained_further(self) -> Self:
        if self.teacher_epochs and self.dense == "freeze":
            raise ValueError('expected no teacher_epochs with dense "freeze": they train every weight of the original')
        return self


class NormalizeSettings(Request):
    """Mean and standard deviation of each channel, applied after 8-bit values are scaled to [0, 1]."""

    mean: list[Annotated[float, Field(ge=-1e6, le=1e6)]] = Field(
        min_length=1, max_length=1024, description="Of each channel."
    )
    std: list[Annotated[float, Field(gt=0, le=1e6)]] = Field(
        min_length=1, max_length=1024, description="Standard deviation of each channel."
    )

    @model_validator(mode="after")
    def _same_length(self) -> Self:
        if len(self.mean) != len(self.std):
            raise ValueError(f"expected as many values in std as in mean ({len(self.mean)}), got {len(self.std)}")
        return self


class ImageSettings(Request):
    """What is done to the images of a data set before all else."""

    resize: Annotated[list[Annotated[int, Field(ge=1, le=1024)]], Field(min_length=2, max_length=2)] | None = Field(
        default=None,
        description="Height and width that every image is stretched to, with antialiasing. Needed where images differ "
        "in size.",
    )


class AugmentSettings(Request):
    """Random changes of the training images in each step of `fine_tune`, `teacher_epochs` too; not of other splits."""

    crop: int = Field(
        default=0,
        ge=0,
        le=64,
        description="Pixels of black that an image is surrounded with before a part of its size is cut out of it.",
    )
    flip: bool = Field(default=False, description="Mirror half of the images, left to right.")
    rotate: float = Field(
        default=0.0,
        ge=0,
        le=180,
        description="Degrees: each image is turned about its centre by an angle of at most so many, either way.",
    )
    stretch: float = Field(
        default=0.0,
        ge=0,
        le=0.5,
        description="Height and width of each image are stretched about its centre, each by a factor of its own "
        "between 1 - stretch and 1 + stretch.",
    )

    @property
    def changes_images(self) -> bool:
        """Whether anything is asked for."""
        return bool(self.crop or self.flip or self.rotate or self.stretch)


class JobSettings(Request):
    """All that a job does follows from these and from the files that they name."""

    checkpoint: FileId = Field(description="The id of an upload with that purpose.")
    architecture: Annotated[str, StringConstraints(min_length=1, max_length=140)] | None = Field(
        default=None,
        description="A name of `GET /v1/architectures`; or `torchvision/NAME`, `timm/NAME`, `transformers/NAME`, of a "
        "model that classifies, where the worker has that library.",
    )
    architecture_config: dict[str, JsonValue] | None = Field(
        default=None,
        description="For `transformers/NAME`: what the `config.json` beside the checkpoint holds. Fields that are not "
        "given have the defaults of the class.",
    )
    dataset: Annotated[str, StringConstraints(min_length=1, max_length=64)] | None = Field(
        default=None,
        description="The id of an upload with that purpose, or a name of `GET /v1/datasets`. Null: weights are fitted, "
        "and nothing is trained or evaluated.",
    )
    compression: CompressionSettings = Field(default_factory=CompressionSettings)
    fit: FitSettings = Field(default_factory=FitSettings)
    fine_tune: FineTuneSettings = Field(default_factory=FineTuneSettings)
    search: SearchSettings = Field(default_factory=SearchSettings)
    image: ImageSettings = Field(default_factory=ImageSettings)
    normalize: NormalizeSettings | None = Field(
        default=None, description="What the original's own training did to its images."
    )
    augment: AugmentSettings | None = Field(default=None, description="Random changes of the training images.")
    exports: list[Export] = Field(
        default=["adtn", "dense"],
        min_length=1,
        max_length=len(get_args(Export)),
        description="What is made: `adtn`, gates and the rest, with a loader in one file; `dense` and `dense_pt`, "
        "original keys and shapes in safetensors and for torch.load; `onnx` and `pt2`, programs that hold the gates "
        "and decode them. Programs need an architecture, or a checkpoint that carries its graph.",
    )
    seed: int = Field(default=0, ge=0, le=2**32 - 1, description="The same one gives the same job on the same machine.")
    name: Name | None = Field(default=None, description="For people.")
    metadata: dict[MetadataKey, MetadataValue] = Field(
        default={}, max_length=16, description="Texts by key, for programs; returned as they are."
    )
    made_with: dict[str, Any] | None = Field(
        default=None, exclude=True, description="Files and versions in a `recipe.json`; not read and not kept."
    )

    @model_validator(mode="after")
    def _natural_epochs_know_the_size(self) -> Self:
        target = self.compression.target
        if self.fine_tune.natural_epochs and target is not None and target.max_accuracy_drop is not None:
            raise ValueError(
                "expected no natural_epochs with max_accuracy_drop: a search also tries models with more numbers than "
                f"they can train, {MOST_NATURAL_NUMBERS:,}"
            )
        return self

    @field_validator("architecture_config")
    @classmethod
    def _small(cls, config: dict[str, JsonValue] | None) -> dict[str, JsonValue] | None:
        if config is None:
            return None
        kept = {key: value for key, value in config.items() if key not in LABELS}
        size = len(json.dumps(kept, allow_nan=False))
        if size > MAX_CONFIG_CHARACTERS:
            raise ValueError(f"expected at most {MAX_CONFIG_CHARACTERS} characters of JSON, got {size}")
        return kept

    @field_validator("exports")
    @classmethod
    def _each_once(cls, exports: list[Export]) -> list[Export]:
        if len(set(exports)) < len(exports):
            raise ValueError(f"expected each export once, got {', '.join(exports)}")
        return exports
