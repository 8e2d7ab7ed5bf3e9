"""What a job would come to. Sizes are exact; seconds and memory come from a plain model of the work and are rough.

The model: a step of a fit applies every gate once forward and about twice that backward, so it costs `gates x entries x
gate width` multiplications, plus a fixed overhead a gate; a step of fine-tuning decodes every weight in the same way
and runs the batch through the model (`service.fine_tuning`), each layer at the positions that its shape tells
(`service.positions`); natural-gradient steps lead gradients of single samples to the gates, and multiply a matrix for
each. The original may be trained further before. A measured layer takes a few short fits more, and the network once for
each; a search takes the whole once a trial.

An evaluation costs its samples' way through the network. Counted are: the samples for the moments of layers' inputs;
the test split for the original, the fitted and the compressed model, for the original that was trained further, and for
each artifact that is opened to verify it; single samples for the latency; of a further training of the original, and of
a fine-tuning that can be undone, the looks before and after it; and in a search the held-out samples for the original,
for what trials are compared with, and for each trial as fitted and as trained. Not counted are reading and writing
files, and what networks do besides multiplying weights.
"""

import math
from collections.abc import Sequence

from adtn.candidates import Candidates
from adtn.coding import max_bytes
from adtn.limits import MOST_NATURAL_NUMBERS, OBSERVED
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
from service.estimated_memory import BYTES_OF_DTYPE, DEFAULT_BYTES, peak_memory
from service.fine_tuning import (
    Tuning,
    can_be_undone,
    has_control,
    operations,
    original_operations,
    original_steps,
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
MOMENT_SAMPLES = 2000
"""That the moments of layers' inputs are of, at most."""
MOST_JUDGING = 10_000
"""Samples, at most, on which a training of the original or of the fitted model is judged: before it and after it."""
LATENCY_SAMPLES = 66
"""Given one by one to the original and the compressed model, 33 to each."""

PLANNED = ("layers", "parameters", "bytes", "fine_tuning")
"""What follows from the plan."""
MEASURED = "the numbers are shared over the layers by what the worker measures: here they are shared evenly"
SEARCHED = (
    "the size is not known before the job: it is the smallest of those tried that keeps the accuracy on held-out "
    "data; the sizes here are those of the largest, the time is that of the first for all "
    "trials, the memory that of the one that takes most"
)
HOPELESS = (
    "the first trial, with what comes before it, is expected to take longer than search.max_minutes allows for the "
    "whole search: the job would end without an answer; raise that cap, make the fine-tuning shorter, or give fewer "
    "samples to evaluate"
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
    teacher = _teacher_seconds(settings, checkpoint, work)
    looks = _evaluation_seconds(work, _test_samples(settings, work) + 2 * _samples_that_undo(settings, work))
    a_trial = once + _looks_at_a_trial(settings) * _evaluation_seconds(work, work.heldout)
    search = _search(settings, plans, checkpoint, a_trial) if is_searched(settings.compression) else None
    measured = to_measure(settings.compression, layers_in(checkpoint))
    among = work.not_held_out if search or measured else work.samples
    before = _evaluation_seconds(work, min(MOMENT_SAMPLES, among))
    if measured:
        before += _measuring_seconds(settings, measured, work)
    if search:
        before += _evaluation_seconds(work, work.heldout) + _control_seconds(settings, checkpoint, work)
    is_hopeless = search is not None and before + search.seconds_a_trial > search.max_seconds
    if search:
        before = min(before + search.trials * search.seconds_a_trial, search.max_seconds)
    seconds = round(START_SECONDS + teacher + before + once + looks)
    of_plan = PLANNED if search or measured else () if gate_bits is None else ("bytes",)
    return Estimate(
        layers=layers,
        skipped=[item.layer.name for item in plan.skipped],
        parameters=_size(plan.original, plan.parameters),
        bytes=_size(sum(layer.original_bytes for layer in layers), sum(layer.compressed_bytes for layer in layers)),
        seconds=seconds,
        memory_bytes=max(
            peak_memory(settings, tried, its, checkpoint, dataset) for tried, its in zip(plans, works, strict=True)
        ),
        fine_tuning=work.view() if work.steps else None,
        rough=[*of_plan, "seconds", "memory_bytes"],
        search=search,
        notes=[
            *((SEARCHED,) if search else ()),
            *((HOPELESS,) if is_hopeless else ()),
            *((_too_long(task_limit_s),) if seconds > task_limit_s else ()),
            *((MEASURED,) if measured else ()),
            *_too_many_numbers(settings, work, measured),
            *((CODED,) if gate_bits is not None else ()),
            *work.notes(),
        ],
    )


def _too_long(task_limit_s: float) -> str:
    """The note where a job would not end in time."""
    return (
        f"a job may take {task_limit_s / 3600:g} hours here, and fails with time_limit after that: make the "
        "fine-tuning shorter, search less, test on fewer samples, or ask for a larger ADTN_TASK_LIMIT_S"
    )


def _too_many_numbers(settings: JobSettings, work: Tuning, measured: Candidates | None) -> Sequence[str]:
    """The note where natural-gradient epochs would be refused.

    A measured plan may leave room in its target, but what is left of that is dense: it counts too, unless it is frozen.
    """
    known = measured is None or settings.fine_tune.dense == "train"
    if not settings.fine_tune.natural_epochs or not work.steps or not known or work.trained <= MOST_NATURAL_NUMBERS:
        return ()
    return (
        f"natural_epochs: at most {MOST_NATURAL_NUMBERS:,} numbers can be trained so, here it would be "
        f"{work.trained:,}: the job would be refused",
    )


def _search(settings: JobSettings, plans: Sequence[Plan], checkpoint: FileRecord, a_trial: float) -> EstimatedSearch:
    original = checkpoint.parameters
    smallest, largest = (_size(original, original - plan.saved) for plan in (plans[0], plans[-1]))
    return EstimatedSearch(
        smallest=smallest,
        largest=largest,
        trials=most_trials(len(plans), settings.search.max_trials),
        seconds_a_trial=round(a_trial, 1),
        max_seconds=60 * settings.search.max_minutes,
    )


def _measuring_seconds(settings: JobSettings, measured: Candidates, work: Tuning) -> float:
    """Quick fits of a few sizes of each layer; with data the network is run once for each."""
    together = plans_to_measure(measured, most_to_measure(settings.compression, measured))
    entries = [entry for plan in together for entry in plan.entries]
    fits = min(QUICK_STEPS, settings.fit.steps) * sum(map(_decode_seconds, entries))
    looks = len(entries) * _evaluation_seconds(work, min(work.heldout, samples_looked_at(work.forward)))
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


def _evaluation_seconds(work: Tuning, samples: int) -> float:
    """Of so many samples' way through the network; none where there are no data."""
    return samples * work.forward / OPERATIONS_A_SECOND


def _test_samples(settings: JobSettings, work: Tuning) -> int:
    """How many samples take that way at the end: the test split for each model and artifact, and those for latency."""
    models = 4 if settings.fine_tune.teacher_epochs else 3
    artifacts = len(settings.exports) + ("adtn" in settings.exports)  # opened by the loader beside it, too
    return work.test * (models + artifacts) + (LATENCY_SAMPLES if work.test else 0)


def _samples_that_undo(settings: JobSettings, work: Tuning) -> int:
    """On how many it is judged whether the fine-tuning has done harm; none where it is not undone."""
    if not can_be_undone(settings, work):
        return 0
    return min(MOST_JUDGING, work.heldout if work.validated else work.samples)


def _looks_at_a_trial(settings: JobSettings) -> int:
    """How often a trial takes the held-out samples: as fitted, unless gates in few bits come of training, and after."""
    return 2 if settings.compression.gate_bits is None else 1


def _original_seconds(settings: JobSettings, checkpoint: FileRecord, work: Tuning, epochs: int) -> float:
    """Of training the original further."""
    step = work.layers * SECONDS_A_LAYER + checkpoint.parameters * SECONDS_A_NUMBER
    passes = original_operations(work, epochs) / OPERATIONS_A_SECOND
    return original_steps(settings, work, epochs) * step + passes


def _teacher_seconds(settings: JobSettings, checkpoint: FileRecord, work: Tuning) -> float:
    """Of the original's training before all else, and of the looks before and after it."""
    epochs = settings.fine_tune.teacher_epochs
    if not epochs:
        return 0.0
    among = work.not_held_out if is_searched(settings.compression) else work.samples
    looks = 2 * _evaluation_seconds(work, min(MOST_JUDGING, among))
    return _original_seconds(settings, checkpoint, work, epochs) + looks


def _control_seconds(settings: JobSettings, checkpoint: FileRecord, work: Tuning) -> float:
    """Of the original that trials are compared with: trained as they are, and two looks at it.

    One is at the held-out samples, the other at as many that it was trained on.
    """
    trained = has_control(settings, work)
    if work.validated or not (trained or settings.fine_tune.teacher_epochs):
        return 0.0
    looks = 2 * _evaluation_seconds(work, work.heldout)
    return looks + (_original_seconds(settings, checkpoint, work, settings.fine_tune.epochs) if trained else 0.0)


def _natural_seconds(settings: JobSettings, plan: Plan, work: Tuning) -> float:
    """What natural-gradient epochs take besides: curvature, for which each weight's gradient is led to its gates."""
    observed = settings.fine_tune.natural_epochs * work.samples * OBSERVED
    decoding = sum(_decode_seconds(entry) for entry in plan.entries)
    return observed * (decoding + work.trained**2 / CURVATURE_OPERATIONS_A_SECOND)
