"""What a job would come to. Sizes are exact; seconds and memory come from a plain model of the work and are rough.

The model: a step of a fit builds every gate's product once forward and about twice that backward, so it costs
`sites x entries x gate width` multiplications, plus a fixed overhead a gate; a step of fine-tuning decodes every weight
in the same way and runs the batch through the model at two multiplications a parameter and input, thrice for
forward and backward.
"""

import math

from adtn.plan import Plan, PlanEntry
from jobs.catalogue import DATASETS
from jobs.files import FileRecord
from jobs.schemas.jobs import Estimate, EstimatedLayer, EstimatedSize
from jobs.schemas.settings import JobSettings

# Measured on two CPU cores, rounded: numbers of a large matrix product a second, and the start of one operation.
OPERATIONS_A_SECOND = 6e9
SECONDS_A_GATE = 1e-4
START_SECONDS = 10.0
START_BYTES = 600 * 1024**2

BYTES_OF_DTYPE = {"float64": 8, "F64": 8, "float16": 2, "F16": 2, "bfloat16": 2, "BF16": 2}
DEFAULT_BYTES = 4


def estimate(settings: JobSettings, plan: Plan, checkpoint: FileRecord, dataset: FileRecord | None) -> Estimate:
    """Predict the size, time and memory of a job.

    Args:
        settings: What is asked for.
        plan: What follows for the layers.
        checkpoint: The file, inspected.
        dataset: The data set, if it is a file.
    """
    widths = {layer["key"]: BYTES_OF_DTYPE.get(layer["dtype"], DEFAULT_BYTES) for layer in checkpoint.layers or []}
    layers = [_layer(entry, widths[entry.layer.key]) for entry in plan.entries]
    return Estimate(
        layers=layers,
        skipped=[item.layer.name for item in plan.skipped],
        parameters=_size(plan.original, plan.parameters),
        bytes=_size(sum(layer.original_bytes for layer in layers), sum(layer.compressed_bytes for layer in layers)),
        seconds=round(
            START_SECONDS + _fit_seconds(settings, plan) + _tune_seconds(settings, plan, checkpoint, dataset)
        ),
        memory_bytes=_memory(plan, checkpoint, dataset),
        rough=["seconds", "memory_bytes"],
    )


def _layer(entry: PlanEntry, width: int) -> EstimatedLayer:
    return EstimatedLayer(
        name=entry.layer.name,
        kind=entry.layer.kind,
        shape=list(entry.layer.shape),
        original=entry.original,
        compressed=entry.parameters,
        original_bytes=entry.original * width,
        # Gates are trained and stored in single precision at least.
        compressed_bytes=entry.parameters * max(width, DEFAULT_BYTES),
        structure=entry.structure.summary(),
    )


def _size(original: int, compressed: int) -> EstimatedSize:
    return EstimatedSize(original=original, compressed=compressed, ratio=round(original / compressed, 2))


def _decode_seconds(entry: PlanEntry) -> float:
    """Seconds of building one weight from its gates, forward and backward."""
    structure = entry.structure
    gates = len(structure.gate_shapes)
    operations = 3 * structure.size * sum(into for _, into in structure.gate_shapes)
    return gates * SECONDS_A_GATE + operations / OPERATIONS_A_SECOND


def _fit_seconds(settings: JobSettings, plan: Plan) -> float:
    return settings.fit.steps * sum(_decode_seconds(entry) for entry in plan.entries)


def _tune_seconds(settings: JobSettings, plan: Plan, checkpoint: FileRecord, dataset: FileRecord | None) -> float:
    samples = _samples(settings, dataset)
    options = settings.fine_tune
    steps = options.epochs * math.ceil(samples / options.batch_size)
    decoding = steps * sum(_decode_seconds(entry) for entry in plan.entries)
    passes = 4 if options.distill else 3
    operations = options.epochs * samples * passes * 2 * _parameters(checkpoint)
    return decoding + operations / OPERATIONS_A_SECOND


def _samples(settings: JobSettings, dataset: FileRecord | None) -> int:
    """Inputs of the training split, as far as they are known; 0 without data."""
    if dataset is not None:
        splits = (dataset.summary or {}).get("splits", {})
        return int(splits.get("train", 0))
    return DATASETS[settings.dataset].train if settings.dataset in DATASETS else 0


def _parameters(checkpoint: FileRecord) -> int:
    return int((checkpoint.summary or {}).get("parameters", 0))


def _decoded_entries(entry: PlanEntry) -> int:
    """Entries of all the products that decoding a weight keeps for the backward pass."""
    return sum(term.size * (term.depth + 2) for term in entry.structure.terms)


def _memory(plan: Plan, checkpoint: FileRecord, dataset: FileRecord | None) -> int:
    """Model, teacher, gradients and Adam's moments; each TN layer's product of the largest weight; the data."""
    largest = max((_decoded_entries(entry) for entry in plan.entries), default=0)
    # 8-bit images become single precision.
    data = 4 * dataset.bytes if dataset else 0
    return START_BYTES + 6 * checkpoint.bytes + 4 * 3 * largest + data
