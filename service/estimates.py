"""What a job would come to. Sizes are exact; seconds and memory come from a plain model of the work and are rough.

The model: a step of a fit applies every gate once forward and about twice that backward, so it costs `gates x entries x
gate width` multiplications, plus a fixed overhead a gate; a step of fine-tuning decodes every weight in the same way
and runs the batch through the model (`service.fine_tuning`), each layer at the positions that its shape tells
(`service.positions`); natural-gradient steps lead gradients of single samples to the gates, and multiply a matrix for
each. The original may be trained further before. A measured layer takes a few short fits more, and the network once for
each; a search takes the whole once a trial.
"""

import math
from collections.abc import Sequence

from adtn.candidates import Candidates
from adtn.coding import max_bytes
from adtn.limits import OBSERVED
from adtn.plan import Plan, PlanEntry
from jobs.files import FileRecord
from jobs.planning import (
    MEASURING_TIME,
    QUICK_STEPS,
    is_searched,
    most_to_measure,
    most_trials,
    plans_to_measure,
    samples_looked_at,
    to_measure,
)
from jobs.schemas.jobs import Estimate, EstimatedLayer, EstimatedSearch, EstimatedSize
from jobs.schemas.settings import JobSettings
from service.fine_tuning import (
    Tuning,
    operations,
    original_operations,
    original_steps,
    sample_shape,
    splits_of,
    tuning,
)
from service.planning import layers_in

# Measured on two CPU cores, rounded. Of training steps of LeNet-5, AlexNet, VGG-16, ResNets, a ViT and a ConvNeXt; a
# MobileNet, with its convolutions of single channels, takes four times as long.
OPERATIONS_A_SECOND = 1e11
SECONDS_A_LAYER = 5e-4
"""Of a step, in each layer, however little it computes."""
SECONDS_A_NUMBER = 3e-9
"""Of a step of the optimiser."""
# Of decoding, where gates are applied several at a time (docs/contraction.md), and what a gate costs beside.
DECODING_OPERATIONS_A_SECOND = 4e10
SECONDS_A_GATE = 4e-5
CURVATURE_OPERATIONS_A_SECOND = 6e9
"""Of the products of small matrices in natural-gradient steps."""
START_SECONDS = 10.0
START_BYTES = 600 * 1024**2
FROZEN_COPIES = 3
"""Of the checkpoint in memory: the file's, the model's and the teacher's."""
TRAINED_COPIES = 6
"""With the gradients and Adam's two moments of all that stays dense."""
CORRECTED_COPIES = 1
"""With the original as it was trained further, which is evaluated at the end."""
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

PLANNED = ("layers", "parameters", "bytes", "fine_tuning")
"""What follows from the plan."""
MEASURED = "the numbers are shared over the layers by what the worker measures: here they are shared evenly"
SEARCHED = (
    "the size is not known before the job: it is the smallest of those tried that keeps the accuracy on held-out "
    "data; the sizes here are those of the largest, the time is that of the first for all "
    "trials, the memory that of the one that takes most"
)
HOPELESS = (
    "a trial is expected to take longer than search.max_minutes allows for the whole search: the job would end without "
    "an answer; raise that cap, or make the fine-tuning shorter"
)
CODED = "the bytes of gates in few bits are an upper bound: how far entropy coding gets below depends on the integers"


def estimate(
    settings: JobSettings,
    plans: Sequence[Plan],
    checkpoint: FileRecord,
    dataset: FileRecord | None,
    task_limit_s: float = math.inf,
) -> Estimate:
    """Predict the size, time and memory of a job.

    Args:
        settings: What is asked for.
        plans: What follows for the layers; several where the job has to search, from the smallest model upwards.
        checkpoint: The file, inspected.
        dataset: The data set, if it is a file.
        task_limit_s: The longest that a job may take.
    """
    plan = plans[-1]
    widths = {layer["key"]: BYTES_OF_DTYPE.get(layer["dtype"], DEFAULT_BYTES) for layer in checkpoint.layers or []}
    gate_bits = settings.compression.gate_bits
    layers = [_layer(entry, widths[entry.layer.weights[0].key], gate_bits) for entry in plan.entries]
    works = [tuning(settings, tried, checkpoint, dataset) for tried in plans]
    work = works[-1]
    # Sizes differ in how many weights are encoded, and then decoded in each step. A search begins in the middle, but a
    # single trial is of the largest.
    first = len(plans) // 2 if settings.search.max_trials > 1 else -1
    once = _fit_seconds(settings, plans[first]) + _tune_seconds(settings, plans[first], works[first])
    teacher = _original_seconds(settings, checkpoint, work, settings.fine_tune.teacher_epochs)
    search = _search(settings, plans, checkpoint, once) if is_searched(settings.compression) else None
    measured = to_measure(settings.compression, layers_in(checkpoint))
    before = _measuring_seconds(settings, measured, work) if measured else 0.0
    if search:
        before += _control_seconds(settings, checkpoint, dataset, work)
    is_hopeless = search is not None and before + search.seconds_a_trial > search.max_seconds
    if search:
        before = min(before + search.trials * search.seconds_a_trial, search.max_seconds)
    seconds = round(START_SECONDS + teacher + before + once)
    of_plan = PLANNED if search or measured else () if gate_bits is None else ("bytes",)
    return Estimate(
        layers=layers,
        skipped=[item.layer.name for item in plan.skipped],
        parameters=_size(plan.original, plan.parameters),
        bytes=_size(sum(layer.original_bytes for layer in layers), sum(layer.compressed_bytes for layer in layers)),
        seconds=seconds,
        memory_bytes=max(
            _memory(settings, tried, its, checkpoint, dataset) for tried, its in zip(plans, works, strict=True)
        ),
        fine_tuning=work.view() if work.steps else None,
        rough=[*of_plan, "seconds", "memory_bytes"],
        search=search,
        notes=[
            *((SEARCHED,) if search else ()),
            *((HOPELESS,) if is_hopeless else ()),
            *((_too_long(task_limit_s),) if seconds > task_limit_s else ()),
            *((MEASURED,) if measured else ()),
            *((CODED,) if gate_bits is not None else ()),
            *work.notes(),
        ],
    )


def _too_long(task_limit_s: float) -> str:
    """The note where a job would not end in time."""
    return (
        f"a job may take {task_limit_s / 3600:g} hours here, and fails with time_limit after that: make the "
        "fine-tuning shorter, search less, or ask for a larger ADTN_TASK_LIMIT_S"
    )


def _search(settings: JobSettings, plans: Sequence[Plan], checkpoint: FileRecord, once: float) -> EstimatedSearch:
    original = checkpoint.parameters
    smallest, largest = (_size(original, original - plan.saved) for plan in (plans[0], plans[-1]))
    return EstimatedSearch(
        smallest=smallest,
        largest=largest,
        trials=most_trials(len(plans), settings.search.max_trials),
        seconds_a_trial=round(once, 1),
        max_seconds=60 * settings.search.max_minutes,
    )


def _measuring_seconds(settings: JobSettings, measured: Candidates, work: Tuning) -> float:
    """Quick fits of a few sizes of each layer; with data the network is run once for each."""
    together = plans_to_measure(measured, most_to_measure(settings.compression, measured))
    entries = [entry for plan in together for entry in plan.entries]
    fits = min(QUICK_STEPS, settings.fit.steps) * sum(map(_decode_seconds, entries))
    flops = 2 * (work.dense_work + work.encoded_work)
    samples = min(work.heldout, samples_looked_at(flops))
    looks = len(entries) * samples * flops / OPERATIONS_A_SECOND
    return min(fits + looks, MEASURING_TIME * 60 * settings.search.max_minutes)


def _layer(entry: PlanEntry, width: int, gate_bits: int | None) -> EstimatedLayer:
    # Gates are trained, and stored unless in few bits, in single precision at least.
    floats = entry.parameters * max(width, DEFAULT_BYTES)
    return EstimatedLayer(
        name=entry.layer.name,
        kind=entry.layer.kind,
        shape=list(entry.layer.shape),
        original=entry.original,
        compressed=entry.parameters,
        original_bytes=entry.original * width,
        compressed_bytes=floats if gate_bits is None else max_bytes(entry.parameters, gate_bits),
        structure=entry.structure.summary(),
    )


def _size(original: int, compressed: int) -> EstimatedSize:
    return EstimatedSize(original=original, compressed=compressed, ratio=round(original / compressed, 2))


def _decode_seconds(entry: PlanEntry) -> float:
    """Seconds of building one weight from its gates, forward and backward."""
    structure = entry.structure
    gates = len(structure.gate_shapes)
    operations = 3 * structure.size * sum(into for _, into in structure.gate_shapes)
    return gates * SECONDS_A_GATE + operations / DECODING_OPERATIONS_A_SECOND


def _fit_seconds(settings: JobSettings, plan: Plan) -> float:
    return settings.fit.steps * sum(_decode_seconds(entry) for entry in plan.entries)


def _tune_seconds(settings: JobSettings, plan: Plan, work: Tuning) -> float:
    decoding = sum(_decode_seconds(entry) for entry in plan.entries)
    step = decoding + work.layers * SECONDS_A_LAYER + work.trained * SECONDS_A_NUMBER
    passes = operations(work, settings.fine_tune) / OPERATIONS_A_SECOND
    return work.steps * step + passes + _natural_seconds(settings, plan, work)


def _original_seconds(settings: JobSettings, checkpoint: FileRecord, work: Tuning, epochs: int) -> float:
    """Of training the original further."""
    step = work.layers * SECONDS_A_LAYER + checkpoint.parameters * SECONDS_A_NUMBER
    passes = original_operations(work, epochs) / OPERATIONS_A_SECOND
    return original_steps(settings, work, epochs) * step + passes


def _control_seconds(settings: JobSettings, checkpoint: FileRecord, dataset: FileRecord | None, work: Tuning) -> float:
    """Of the original that trials are compared with, trained as they are; none where another split is held out."""
    if "val" in splits_of(dataset) or settings.fine_tune.dense == "freeze":
        return 0.0
    return _original_seconds(settings, checkpoint, work, settings.fine_tune.epochs)


def _natural_seconds(settings: JobSettings, plan: Plan, work: Tuning) -> float:
    """What natural-gradient epochs take besides: curvature, for which each weight's gradient is led to its gates."""
    observed = settings.fine_tune.natural_epochs * work.samples * OBSERVED
    decoding = sum(_decode_seconds(entry) for entry in plan.entries)
    return observed * (decoding + work.trained**2 / CURVATURE_OPERATIONS_A_SECOND)


def _memory(settings: JobSettings, plan: Plan, work: Tuning, checkpoint: FileRecord, dataset: FileRecord | None) -> int:
    """The copies of the model, tensors of the largest weight, outputs of a training step, the curvature, the data."""
    largest = max((entry.structure.size for entry in plan.entries), default=0)
    data = _data_bytes(settings, dataset) if dataset else 0
    copies = FROZEN_COPIES if settings.fine_tune.dense == "freeze" else TRAINED_COPIES
    copies += CORRECTED_COPIES if settings.fine_tune.teacher_epochs else 0
    numbers = (DECODING_TENSORS + FIT_TENSORS) * largest
    if settings.fine_tune.natural_epochs:
        numbers += NATURAL_MATRICES * work.trained**2
    if work.steps or settings.fine_tune.teacher_epochs:
        at_once = math.ceil(settings.fine_tune.batch_size / settings.fine_tune.accumulate)
        numbers += OUTPUTS_OF_A_LAYER * min(at_once, work.samples) * work.outputs
    return START_BYTES + copies * checkpoint.bytes + 4 * numbers + data


def _data_bytes(settings: JobSettings, dataset: FileRecord) -> int:
    """Bytes of all samples in single precision, in the size that images are resized to."""
    samples = sum(splits_of(dataset).values())
    return DEFAULT_BYTES * samples * math.prod(sample_shape(settings, dataset))
