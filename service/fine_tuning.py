"""What fine-tuning would come to, by the shapes of the weights: what is trained, and what is computed only once."""

import math
from dataclasses import dataclass

from adtn.plan import Plan
from jobs.catalogue import ARCHITECTURES, DATASETS, split_name
from jobs.files import FileRecord
from jobs.planning import HELD_OUT_SHARE, MOST_KEPT_BYTES, is_searched
from jobs.schemas.jobs import EstimatedFineTuning
from jobs.schemas.settings import FineTuneSettings, JobSettings
from service.planning import layers_in
from service.positions import positions

MOST_HELD_OUT = 10_000
"""Samples that a worker holds out at most, of either split."""
BYTES_OF_PRECISION = {"float32": 4, "bfloat16": 2}

KEPT = (
    "the outputs of fine_tuning.kept_layers are assumed to fit the worker's disk, and dropout to come right after them "
    "where the architecture has any: the worker looks, and may keep less or more"
)
TOO_LARGE = (
    f"layers that stay the same are computed at each step: their outputs take more than {MOST_KEPT_BYTES:,} bytes"
)
NOT_KEPT = "with augment each step sees other images, so no layer is computed once, though what stayed dense is frozen"


@dataclass(frozen=True)
class Tuning:
    """The work of fine-tuning.

    Attributes:
        samples: Of the training split; 0 without data.
        heldout: Those that choices are made by: of the validation split, or else of the training split.
        validated: Whether they are of a validation split, so that no trained sample is held out.
        test: Samples of the test split; 0 without data.
        steps: Of the optimiser; 0 if nothing is trained.
        dense: Numbers of what stays dense, tied ones once.
        gates: Numbers that the gates have.
        encoded_work: Multiplications of the encoded layers, an input and pass.
        dense_work: The same of what stays dense.
        kept_work: The same of the layers that are computed once.
        outputs: Numbers that all layers hand on, an input.
        layers: How many there are.
        kept_layers: Their names, in the order in which the network uses them.
        cached_bytes: Of what they hand on, for all samples; None where that does not follow from shapes.
        frozen: Whether the gates alone are trained.
        augmented: Whether each step sees other inputs.
        outputs_too_large: Whether layers are not kept for the bytes that they hand on.
    """

    samples: int
    heldout: int
    validated: bool
    test: int
    steps: int
    dense: int
    gates: int
    encoded_work: int
    dense_work: int
    kept_work: int
    outputs: int
    layers: int
    kept_layers: tuple[str, ...]
    cached_bytes: int | None
    frozen: bool
    augmented: bool
    outputs_too_large: bool

    @property
    def not_held_out(self) -> int:
        """Training samples that are left where some are held out."""
        return self.samples if self.validated else self.samples - self.heldout

    @property
    def forward(self) -> int:
        """Floating-point operations of one sample's way through the network, two a multiplication."""
        return 2 * (self.dense_work + self.encoded_work)

    @property
    def trained(self) -> int:
        """Numbers that are trained."""
        return self.gates if self.frozen else self.gates + self.dense

    def view(self) -> EstimatedFineTuning:
        """As it is sent."""
        return EstimatedFineTuning(
            trained_parameters=self.trained,
            kept_layers=list(self.kept_layers),
            cached_bytes=self.cached_bytes,
        )

    def notes(self) -> list[str]:
        """What is assumed."""
        if self.kept_layers:
            return [KEPT]
        if self.outputs_too_large:
            return [TOO_LARGE]
        return [NOT_KEPT] if self.steps and self.frozen and self.augmented else []


def tuning(settings: JobSettings, plan: Plan, checkpoint: FileRecord, dataset: FileRecord | None) -> Tuning:
    """The work of fine-tuning a plan.

    Args:
        settings: What is asked for.
        plan: What is encoded.
        checkpoint: The file, inspected.
        dataset: The data set, if it is a file.
    """
    splits = splits_of(settings, dataset)
    samples, validated = splits.get("train", 0), "val" in splits
    steps = settings.fine_tune.epochs * math.ceil(samples / settings.fine_tune.batch_size)
    frozen = settings.fine_tune.dense == "freeze"
    augmented = settings.augment is not None and settings.augment.changes_images
    kept: tuple[str, ...] = ()
    numbers: int | None = 0
    if steps and frozen and not augmented:
        kept, numbers = _steady(settings, plan, checkpoint)
    width = BYTES_OF_PRECISION[settings.fine_tune.precision]
    cached = None if numbers is None else samples * numbers * width
    outputs_too_large = cached is not None and cached > MOST_KEPT_BYTES
    if outputs_too_large:
        kept, cached = (), 0
    layers = layers_in(checkpoint)
    library = split_name(settings.architecture or "")
    is_text = library is not None and library[0] == "transformers"
    applied = positions(layers, sample_shape(settings, dataset), is_text=is_text)
    work = {layer.name: layer.entries * applied[layer.key] for layer in layers}
    encoded = sum(work[weight.name] for entry in plan.entries for weight in entry.layer.weights)
    return Tuning(
        samples=samples,
        heldout=min(MOST_HELD_OUT, splits["val"] if validated else round(HELD_OUT_SHARE * samples)),
        validated=validated,
        test=splits.get("test", 0),
        steps=steps,
        dense=checkpoint.parameters - plan.original,
        gates=plan.parameters,
        encoded_work=encoded,
        dense_work=sum(work.values()) - encoded,
        kept_work=sum(work[name] for name in kept),
        outputs=sum(layer.shape[0] * applied[layer.key] for layer in layers),
        layers=len(layers),
        kept_layers=kept,
        cached_bytes=cached,
        frozen=frozen,
        augmented=augmented,
        outputs_too_large=outputs_too_large,
    )


def operations(work: Tuning, options: FineTuneSettings) -> int:
    """Floating-point operations of all passes through the network, two a multiplication.

    A step goes forward once, and backward twice through what is trained, once through what is frozen. The teacher's
    outputs are computed once, unless each step sees other inputs.

    Args:
        work: What there is to do.
        options: For the epochs, and whether there is a teacher.
    """
    if not work.steps:
        return 0
    step = 3 * work.encoded_work + (2 if work.frozen else 3) * (work.dense_work - work.kept_work)
    teacher = work.dense_work + work.encoded_work if options.distill else 0
    passes = options.epochs * step + work.kept_work + teacher * (options.epochs if work.augmented else 1)
    return 2 * work.samples * passes


def original_steps(settings: JobSettings, work: Tuning, epochs: int) -> int:
    """Of the optimiser, in which the original is trained further; 0 without data."""
    return epochs * math.ceil(work.samples / settings.fine_tune.batch_size)


def has_control(settings: JobSettings, work: Tuning) -> bool:
    """Whether the original is trained as trials are: not with a split of its own held out, nor for gates alone."""
    searched, options = is_searched(settings.compression), settings.fine_tune
    return searched and not work.validated and options.epochs > 0 and options.dense != "freeze"


def can_be_undone(settings: JobSettings, work: Tuning) -> bool:
    """Whether a fine-tuning that does harm is undone: not after a search, which chose, nor with gates in few bits."""
    compression = settings.compression
    return work.steps > 0 and not is_searched(compression) and compression.gate_bits is None


def original_operations(work: Tuning, epochs: int) -> int:
    """Floating-point operations of these steps: forward once, and backward twice."""
    return 3 * epochs * work.samples * work.forward


def sample_shape(settings: JobSettings, dataset: FileRecord | None) -> tuple[int, ...]:
    """The shape of one input, as far as it is known: images in the size that they are resized to."""
    shape: list[int | None] = []
    if dataset is not None:
        shape = list((dataset.summary or {}).get("shape", []))
    elif settings.dataset in DATASETS:
        shape = list(DATASETS[settings.dataset].shape)
    if settings.image.resize is not None and len(shape) >= 2:
        shape = [*shape[:-2], *settings.image.resize]
    return tuple(size for size in shape if size is not None)  # a job on images of several sizes fails without a size


def splits_of(settings: JobSettings, dataset: FileRecord | None) -> dict[str, int]:
    """Samples of each split, as far as they are known; none without data."""
    if dataset is not None:
        found: dict[str, int] = (dataset.summary or {}).get("splits", {})
        return found
    known = DATASETS.get(settings.dataset or "")
    return {} if known is None else {"train": known.train, "test": known.test}


def _steady(settings: JobSettings, plan: Plan, checkpoint: FileRecord) -> tuple[tuple[str, ...], int | None]:
    """The layers before the first encoded one and before dropout; and how many numbers they hand on, a sample.

    The worker sees the network and finds the place itself. Here its layers are known by name, in their order. What a
    linear layer takes in is its width; what a convolution does depends on strides and padding, so that it is None.
    """
    known = ARCHITECTURES.get(settings.architecture or "")
    if known is None:
        return (), 0
    encoded = {weight.key for entry in plan.entries for weight in entry.layer.weights}
    kept: list[str] = []
    numbers: int | None = None
    for layer in sorted(checkpoint.layers or [], key=lambda layer: known.place(layer["name"])):
        is_linear = layer["kind"] == "linear"
        if layer["key"] in encoded:
            numbers = layer["shape"][1] if is_linear else None
            break
        if is_linear and known.dropout:
            break
        kept.append(layer["name"])
    return tuple(kept), numbers if kept else 0
