"""The peak of a job's memory, rough: that of two moments, whichever takes more.

One is a training, with the tensors of its steps, a copy of the weights where it may be undone or done again, and a
search's own copies of samples; the other the end, when a second
process loads the data and the artifacts to verify them while the first still holds its own.
"""

import math
from collections.abc import Mapping

from adtn.plan import Plan
from jobs.files import FileRecord
from jobs.planning import is_searched
from jobs.schemas.settings import JobSettings
from service.fine_tuning import Tuning, can_be_undone, has_control, sample_shape, splits_of

START_BYTES = 600 * 1024**2
"""Of the worker and the process that verifies, before either holds a model."""
TRAINED_TENSORS = 4
"""Of the size of all that is trained: the gradient, Adam's two moments, and one within its step."""
VERIFIED_COPIES = 3
"""Of the weights at the end: the compressed ones, and in a second process those read again and the network of them."""
DECODING_TENSORS = 4
"""Of the size of a weight, at any depth, for decoding it and for the gradient (docs/contraction.md)."""
FIT_TENSORS = 3
"""Further ones of the fit: the weight, its difference from the network, and that weighted by the inputs' moments."""
OUTPUTS_OF_A_LAYER = 3
"""Tensors of the size of a layer's outputs that a training step holds: its own, those of its norm and activation."""
NATURAL_MATRICES = 4
"""Of as many rows as numbers are trained: the curvature, its mean, that damped, and its factor."""

BYTES_OF_DTYPE = {"float64": 8, "F64": 8, "float16": 2, "F16": 2, "bfloat16": 2, "BF16": 2}
DEFAULT_BYTES = 4


def peak_memory(
    settings: JobSettings, plan: Plan, work: Tuning, checkpoint: FileRecord, dataset: FileRecord | None
) -> int:
    """Bytes of the worker and the process that verifies, rough.

    Args:
        settings: Of the job.
        plan: What is encoded.
        work: What fine-tuning the plan takes.
        checkpoint: The file, inspected.
        dataset: The data set, if it is a file.
    """
    weights, samples = _weight_bytes(settings, checkpoint), _sample_bytes(settings, dataset)
    models = checkpoint.bytes + _models(settings, work) * weights
    copied = weights if is_searched(settings.compression) or can_be_undone(settings, work) else 0
    copied += _copied_bytes(samples, work) if is_searched(settings.compression) else 0
    training = models + copied + 4 * _numbers_of_training(settings, plan, work, checkpoint)
    verifying = models + VERIFIED_COPIES * weights + loading_bytes(settings, samples)
    return START_BYTES + sum(samples.values()) + max(training, verifying)


def _models(settings: JobSettings, work: Tuning) -> int:
    """Whole models in the worker besides the file's: what is trained, and with data those that it is compared with."""
    fitted = work.samples > 0  # evaluated at the end
    taught = fitted and settings.fine_tune.distill
    corrected = fitted and settings.fine_tune.teacher_epochs > 0
    return 1 + fitted + taught + corrected


def _numbers_of_training(settings: JobSettings, plan: Plan, work: Tuning, checkpoint: FileRecord) -> int:
    """Tensors of the largest weight, outputs of a step, the optimiser's, the curvature."""
    options = settings.fine_tune
    numbers = (DECODING_TENSORS + FIT_TENSORS) * max((entry.structure.size for entry in plan.entries), default=0)
    if options.natural_epochs:
        numbers += NATURAL_MATRICES * work.trained**2
    if work.steps or (options.teacher_epochs and work.samples):
        at_once = math.ceil(options.batch_size / options.accumulate)
        numbers += OUTPUTS_OF_A_LAYER * min(at_once, work.samples) * work.outputs
        numbers += TRAINED_TENSORS * (checkpoint.parameters if has_control(settings, work) else work.trained)
    return numbers


def _weight_bytes(settings: JobSettings, checkpoint: FileRecord) -> int:
    """Of all weights as they are computed with: a network that is known by name computes in single precision."""
    if settings.architecture is not None:
        return DEFAULT_BYTES * checkpoint.parameters
    found = DEFAULT_BYTES * checkpoint.parameters
    for row in checkpoint.layers or []:
        found += row["parameters"] * (BYTES_OF_DTYPE.get(row["dtype"], DEFAULT_BYTES) - DEFAULT_BYTES)
    return found


def _sample_bytes(settings: JobSettings, dataset: FileRecord | None) -> dict[str, int]:
    """Of each split in single precision, in the size that images are resized to."""
    numbers = math.prod(sample_shape(settings, dataset))
    return {split: DEFAULT_BYTES * count * numbers for split, count in splits_of(settings, dataset).items()}


def loading_bytes(settings: JobSettings, samples: Mapping[str, int]) -> int:
    """Of a process that reads the data: all splits are there while one after the other is normalised, in two steps."""
    whole = sum(samples.values())
    return whole if settings.normalize is None else 2 * whole + max(samples.values(), default=0)


def _copied_bytes(samples: Mapping[str, int], work: Tuning) -> int:
    """Of what a search copies: the samples that it holds out, and those that trials are trained on."""
    a_sample = samples.get("train", 0) // max(1, work.samples)
    return a_sample * (work.heldout + work.not_held_out)
