"""The pipeline from the first stage to the last: one straight line."""

import copy
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

import adtn
from jobs.records import JobRecord
from jobs.store import Store
from worker.device import compute_reproducibly, computing_device
from worker.evaluation import latency_ms
from worker.examination import Question
from worker.opening import PROGRAMS
from worker.pipeline.attempt import Attempt
from worker.pipeline.caveats import caveats_of_network
from worker.pipeline.choose import choose, require_possible_choice
from worker.pipeline.compress import encode
from worker.pipeline.correct import correct
from worker.pipeline.documents import write_documents
from worker.pipeline.evaluate import accuracies_of, dense_state, restore_dtypes, right_of_states
from worker.pipeline.export import Artifact, Compressed, export, require_possible
from worker.pipeline.inspect import Inputs, inspect
from worker.pipeline.options import require_natural_epochs
from worker.pipeline.progress import ProgressReporter, correcting_share
from worker.pipeline.reference import write_reference
from worker.pipeline.report import Measurements, build_report
from worker.pipeline.tune import tune
from worker.pipeline.verify import verify


@dataclass(frozen=True)
class Outcome:
    """What a finished job leaves: its report and its files."""

    report: dict[str, object]
    artifacts: list[Artifact]


def run_pipeline(job: JobRecord, store: Store, folder: Path, progress: ProgressReporter) -> Outcome:
    """Compress the job's checkpoint.

    Args:
        job: The job with its settings and files.
        store: Where its files are and fits are kept.
        folder: An empty folder for this attempt.
        progress: Told of every stage and step; raises where the job should not go on.

    Raises:
        ProblemError: The inputs do not fit, the target cannot be met, or an artifact is not what the report says.
        AdtnError: The same, found by the library.
    """
    device = computing_device()
    compute_reproducibly(device)
    torch.manual_seed(job.settings.seed)
    measured = Measurements()

    progress.stage("inspect", "reading the checkpoint and the data set")
    inputs = inspect(job, store, folder, device)
    require_possible(job.settings.exports, inputs)
    measured.network_caveats = caveats_of_network(inputs.architecture, computed=is_computed(job, inputs))
    attempt = Attempt(job, inputs, store, folder, progress)
    if inputs.dataset is not None:
        measured.samples = {split: len(labels) for split, (_, labels) in inputs.dataset.splits.items()}

    corrected = corrected_state(attempt, measured)
    teacher = teacher_of(attempt)

    progress.stage("plan", "choosing structures", correcting_share(job.settings), 1.0)
    with timed(measured, "plan"):
        chosen = choose(attempt, teacher)
        plan, measured.sensitivity, measured.search = chosen.plan, chosen.sensitivity, chosen.search
    if inputs.dataset is not None:
        require_natural_epochs(job.settings, inputs.model, plan.original, plan.parameters)

    progress.stage("fit", f"fitting {len(plan.entries)} weights")
    with timed(measured, "fit"):
        fitted = encode(inputs.model, plan, chosen.moments, attempt, progress.step)

    after_fit = None
    if inputs.dataset is not None:
        after_fit = {key: tensor.clone() for key, tensor in dense_state(inputs.model, inputs.state).items()}
        progress.stage("fine_tune", "fine-tuning" if chosen.fine_tunes else "better as it was fitted")
        if chosen.fine_tunes:
            with timed(measured, "fine_tune"):
                fitted = tune(attempt, chosen, fitted, teacher, measured)

    progress.stage("evaluate", "evaluating the compressed model")
    with timed(measured, "evaluate"):
        restore_dtypes(inputs.model, inputs.state)
        compressed = dense_state(inputs.model, inputs.state)
        if after_fit is not None:
            states = {
                "original": inputs.state,
                "teacher": corrected,
                "fitted": after_fit,
                "compressed": compressed,
            }
            measure_accuracy(measured, attempt, states, device)
            measured.latency_ms = latencies(inputs, compressed, fitted)

    progress.stage("export", "writing the artifacts")
    shape = inputs.architecture.input_shape if inputs.architecture else None
    result = Compressed(inputs.model, compressed, shape, job.checkpoint.key_prefix)
    artifacts = export(result, job.settings.exports, folder)
    details = {"device": device.type, "architecture": inputs.architecture.details if inputs.architecture else None}
    report = build_report(job, plan, fitted, inputs.state, artifacts, measured, details)

    progress.stage("verify", "opening the artifacts in a fresh process")
    reference = write_reference(inputs, compressed, job.settings.seed, folder)
    question = question_of(job, inputs, artifacts, measured.at_once, device, reference)
    report["verified"] = verify(question, measured.accuracies, lambda: progress.step(0.5, "verifying"))
    artifacts += write_documents(job, report, artifacts, folder)
    return Outcome(report, artifacts)


def is_computed(job: JobRecord, inputs: Inputs) -> bool:
    """Whether anything of the job is computed by the network, rather than by its weights alone."""
    return inputs.dataset is not None or any(kind in PROGRAMS for kind in job.settings.exports)


def corrected_state(attempt: Attempt, measured: Measurements) -> dict[str, Tensor] | None:
    """Train the original further where that is asked for; what it has become, or None."""
    settings = attempt.job.settings
    if attempt.inputs.dataset is None or not settings.fine_tune.teacher_epochs:
        return None
    attempt.progress.stage("plan", "training the original further", 0.0, correcting_share(settings))
    require_possible_choice(attempt)
    with timed(measured, "teacher"):
        return correct(attempt)


def teacher_of(attempt: Attempt) -> nn.Module | None:
    """A copy of the model that is to be imitated; None where none will be: fits of weights alone hold them once."""
    if attempt.inputs.dataset is None or not attempt.job.settings.fine_tune.distill:
        return None
    return copy.deepcopy(attempt.inputs.model)


def measure_accuracy(
    measured: Measurements,
    attempt: Attempt,
    states: dict[str, dict[str, Tensor] | None],
    device: torch.device,
) -> None:
    """Measure models on the test split: nothing has looked at it so far.

    Args:
        measured: Receives the accuracies.
        attempt: The job.
        states: Dense state dicts: the original, as it taught (None if as it is), the fitted and the compressed model.
        device: Where to compute.
    """
    blueprint, dataset = attempt.inputs.blueprint, attempt.inputs.dataset
    assert dataset is not None
    there = {name: state for name, state in states.items() if state is not None}
    found, measured.at_once = right_of_states(blueprint, there, dataset, device, attempt.progress.step)
    original, fitted, compressed = found["original"], found["fitted"], found["compressed"]
    measured.accuracies = accuracies_of(original, fitted, compressed, dataset.test_y, found.get("teacher"))


def latencies(inputs: Inputs, compressed: dict[str, Tensor], fitted: dict[str, adtn.ADTN]) -> dict[str, float | int]:
    """Milliseconds, on the CPU, of one input through either model, and of decoding all weights once.

    Both models are dense when they answer, so they cost the same; decoding is paid once, when the model is loaded.
    """
    assert inputs.dataset is not None
    sample = inputs.dataset.test_x[:1]
    shape = tuple(sample.shape[1:])
    models = [inputs.blueprint.build(state, shape).model.eval() for state in (inputs.state, compressed)]
    return {
        "batch": 1,
        "original": latency_ms(lambda: models[0](sample)),
        "compressed": latency_ms(lambda: models[1](sample)),
        "decode_once": latency_ms(lambda: [found.decode() for found in fitted.values()]),
    }


def question_of(
    job: JobRecord,
    inputs: Inputs,
    artifacts: list[Artifact],
    at_once: int,
    device: torch.device,
    reference: Path | None,
) -> Question:
    """What the fresh process has to open, and on what to evaluate it."""
    dataset = inputs.files.get("dataset")
    return Question(
        artifacts={artifact.kind: str(artifact.path) for artifact in artifacts},
        architecture=inputs.blueprint.architecture,
        dataset=str(dataset) if dataset is not None else None,
        normalize=job.settings.normalize.model_dump() if job.settings.normalize else None,
        device=device.type,
        resize=job.settings.image.resize,
        key_prefix=job.checkpoint.key_prefix,
        graph_file=inputs.blueprint.graph_file,
        config=inputs.blueprint.config,
        input_shape=list(inputs.architecture.input_shape) if inputs.architecture else None,
        at_once=at_once,
        reference=str(reference) if reference else None,
    )


@contextmanager
def timed(measured: Measurements, stage: str) -> Iterator[None]:
    """Add the seconds that the block takes to the report."""
    started = time.monotonic()
    yield
    measured.seconds[stage] = time.monotonic() - started
