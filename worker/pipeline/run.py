"""The pipeline from the first stage to the last: one straight line."""

import copy
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

import adtn
from adtn.moments import MAX_SAMPLES
from jobs.planning import plan_of
from jobs.records import JobRecord
from jobs.store import Store
from worker import architectures
from worker.evaluation import latency_ms, top1
from worker.pipeline.evaluate import accuracy_of_state, dense_state, restore_dtypes
from worker.pipeline.export import Artifact, export
from worker.pipeline.fit import fit
from worker.pipeline.inspect import Inputs, inspect
from worker.pipeline.progress import ProgressReporter
from worker.pipeline.report import Measurements, build_report
from worker.pipeline.verify import verify
from worker.verification import Question


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
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.use_deterministic_algorithms(True)
    torch.manual_seed(job.settings.seed)
    measured = Measurements()

    progress.stage("inspect", "reading the checkpoint and the data set")
    inputs = inspect(job, store, folder, device)
    # Copied only where it will teach: fits of weights alone then hold them once.
    teaches = inputs.dataset is not None and job.settings.fine_tune.distill
    teacher = copy.deepcopy(inputs.model) if teaches else None
    measured.baseline = test_accuracy(inputs, progress, "evaluating the checkpoint")

    progress.stage("plan", "choosing structures")
    plan = plan_of(job.settings.compression, inputs.layers)

    progress.stage("fit", f"fitting {len(plan.entries)} weights")
    with timed(measured, "fit"):
        weights = {key: tensor.detach() for key, tensor in inputs.model.state_dict().items()}
        moments = moments_of(inputs, plan, job.settings.seed)
        options = adtn.FitOptions(job.settings.fit.steps, job.settings.fit.learning_rate, job.settings.seed)
        fitted = fit(plan, weights, moments, options, store, folder, progress.step)
        for key, found in fitted.items():
            adtn.encode(inputs.model, key, found, moments[key].mean if key in moments else None)
    measured.after_fit = test_accuracy(inputs, progress, "evaluating the fit")

    if inputs.dataset is not None:
        progress.stage("fine_tune", "fine-tuning")
        with timed(measured, "fine_tune"):
            fine_tune(job, inputs, teacher, progress)

    progress.stage("evaluate", "evaluating the compressed model")
    with timed(measured, "evaluate"):
        restore_dtypes(inputs.model, inputs.state)
        compressed = dense_state(inputs.model, inputs.state)
        if inputs.architecture is not None and inputs.dataset is not None:
            measured.samples = len(inputs.dataset.test_y)
            measured.final = accuracy_of_state(
                inputs.architecture.name,
                compressed,
                inputs.dataset,
                device,
                lambda done: progress.step(done, "evaluating the compressed model"),
            )
            measured.latency_ms = latencies(inputs, fitted)

    progress.stage("export", "writing the artifacts")
    artifacts = export(inputs.model, compressed, job.settings.exports, folder)
    details = {"device": device.type, "architecture": inputs.architecture.details if inputs.architecture else None}
    report = build_report(job, plan, fitted, inputs.state, artifacts, measured, details)

    progress.stage("verify", "opening the artifacts in a fresh process")
    question = question_of(job, inputs, artifacts, device)
    report["verified"] = verify(question, measured.final, lambda: progress.step(0.5, "verifying"))
    artifacts += write_json(folder, "report.json", report), write_json(folder, "recipe.json", report["settings"])
    return Outcome(report, artifacts)


def moments_of(inputs: Inputs, plan: adtn.Plan, seed: int) -> dict[str, adtn.InputMoments]:
    """Moments of the inputs of the planned layers on a part of the training data, where there are data."""
    if inputs.dataset is None:
        return {}
    order = torch.randperm(len(inputs.dataset.train_x), generator=torch.Generator().manual_seed(seed))
    return adtn.input_moments(
        inputs.model, inputs.dataset.train_x[order[:MAX_SAMPLES]], [entry.layer.key for entry in plan.entries]
    )


def fine_tune(job: JobRecord, inputs: Inputs, teacher: torch.nn.Module | None, progress: ProgressReporter) -> None:
    """Fine-tune the encoded model on the training split."""
    assert inputs.dataset is not None
    settings = job.settings.fine_tune
    adtn.fine_tune(
        inputs.model,
        inputs.dataset.train_x,
        inputs.dataset.train_y,
        adtn.FineTuneOptions(
            epochs=settings.epochs,
            learning_rate=settings.learning_rate,
            gate_learning_rate=None if settings.gate_learning_rate == "auto" else settings.gate_learning_rate,
            batch_size=settings.batch_size,
            schedule=settings.schedule,
            distill=settings.distill,
            temperature=settings.temperature,
            seed=job.settings.seed,
        ),
        teacher=teacher,
        on_step=lambda step, steps, loss: progress.step(step / steps, f"fine-tuning, loss {loss:.4f}"),
    )


def test_accuracy(inputs: Inputs, progress: ProgressReporter, message: str) -> float | None:
    """Accuracy of the model as it is, where there are data."""
    if inputs.dataset is None:
        return None
    return top1(inputs.model, inputs.dataset.test_x, inputs.dataset.test_y, lambda done: progress.step(done, message))


def latencies(inputs: Inputs, fitted: dict[str, adtn.ADTN]) -> dict[str, float | int]:
    """Milliseconds of one input through the original and the compressed model, and of decoding all weights once.

    Both models are dense when they answer, so they cost the same; decoding is paid once, when the model is loaded.
    """
    assert inputs.architecture is not None
    assert inputs.dataset is not None
    sample = inputs.dataset.test_x[:1]
    shape = tuple(sample.shape[1:])
    models = [
        architectures.build(inputs.architecture.name, state, shape).model.eval()
        for state in (inputs.state, dense_state(inputs.model, inputs.state))
    ]
    return {
        "batch": 1,
        "original": latency_ms(lambda: models[0](sample)),
        "compressed": latency_ms(lambda: models[1](sample)),
        "decode_once": latency_ms(lambda: [found.decode() for found in fitted.values()]),
    }


def question_of(job: JobRecord, inputs: Inputs, artifacts: list[Artifact], device: torch.device) -> Question:
    """What the fresh process has to open, and on what to evaluate it."""
    dataset = inputs.files.get("dataset", job.settings.dataset)
    return Question(
        artifacts={artifact.kind: str(artifact.path) for artifact in artifacts},
        architecture=job.settings.architecture,
        dataset=str(dataset) if dataset is not None else None,
        normalize=job.settings.normalize.model_dump() if job.settings.normalize else None,
        device=device.type,
    )


def write_json(folder: Path, name: str, value: object) -> Artifact:
    """Write a JSON artifact."""
    path = folder / name
    path.write_text(json.dumps(value, indent=2, sort_keys=False) + "\n")
    return Artifact(name, name.removesuffix(".json"), path)


@contextmanager
def timed(measured: Measurements, stage: str) -> Iterator[None]:
    """Add the seconds that the block takes to the report."""
    started = time.monotonic()
    yield
    measured.seconds[stage] = time.monotonic() - started
