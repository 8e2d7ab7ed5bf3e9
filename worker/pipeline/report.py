"""The report: every count is of numbers in the written files, every accuracy was measured by this job."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

import adtn
from adtn.module import ADTN
from adtn.plan import Plan, PlanEntry
from adtn.ties import gather_ties
from jobs.files import FileRecord
from jobs.records import JobRecord
from worker.confidence import Change, wilson_interval
from worker.pipeline.caveats import Caveat, caveats, caveats_of_measuring
from worker.pipeline.evaluate import Accuracies
from worker.pipeline.export import Artifact
from worker.pipeline.sensitivity import Sensitivity


@dataclass
class Measurements:
    """What the stages measured.

    Attributes:
        accuracies: On the test split; None without data.
        samples: How many each split of the data has; None without data.
        at_once: How many samples the network is given at a time.
        latency_ms: Milliseconds a forward pass, and of one decoding; None without a model.
        seconds: Seconds by stage.
        fine_tuned: What the fine-tuning took; None without data.
        sensitivity: What the plan rests on, if layers were measured.
        search: The trials, if there were any.
        network_caveats: What is to be said of the network as it was built.
        training_caveats: What is to be said of its training.
    """

    accuracies: Accuracies | None = None
    samples: Mapping[str, int] | None = None
    at_once: int = 1
    latency_ms: dict[str, float | int] | None = None
    seconds: dict[str, float] = field(default_factory=dict)
    fine_tuned: adtn.FineTuned | None = None
    sensitivity: Sensitivity | None = None
    search: dict[str, object] | None = None
    network_caveats: Sequence[Caveat] = ()
    training_caveats: Sequence[Caveat] = ()


def build_report(
    job: JobRecord,
    plan: Plan,
    fitted: Mapping[str, ADTN],
    original: Mapping[str, Tensor],
    artifacts: Sequence[Artifact],
    measured: Measurements,
    details: Mapping[str, object],
) -> dict[str, object]:
    """Everything that a user should know about the job, as JSON values; `verified` is added by the stage of that name.

    Args:
        job: The job.
        plan: What was encoded and what was skipped.
        fitted: The ADTNs by key.
        original: The checkpoint's state dict.
        artifacts: The files that hold the model.
        measured: Accuracies and times.
        details: The device, and how the architecture was read off the checkpoint.
    """
    parameters = job.checkpoint.parameters
    compressed = parameters - plan.original + plan.parameters
    settings = job.settings.model_dump(mode="json")
    sizes = {key: adtn.stored_bytes(found) for key, found in fitted.items()}
    dense = sum(tensor.nbytes for tensor in gather_ties(original)[0].values())
    return {
        "accuracy": accuracy_section(measured.accuracies),
        "accuracy_unverified": measured.accuracies is None,
        "parameters": {
            "original": parameters,
            "compressed": compressed,
            "ratio": round(parameters / compressed, 2),
            "encoded": {
                "original": plan.original,
                "compressed": plan.parameters,
                "ratio": round(plan.original / plan.parameters, 2),
            },
            "layers": [layer_row(entry, fitted[entry.layer.key], sizes[entry.layer.key]) for entry in plan.entries],
            "skipped": [{"name": skipped.layer.name, "reason": skipped.reason} for skipped in plan.skipped],
        },
        "bytes": {
            "checkpoint": job.checkpoint.bytes,
            "tensors": dense,
            "artifacts": {artifact.name: artifact.bytes for artifact in artifacts},
            "encoded": encoded_bytes(plan, sizes, original),
        },
        "checkpoint": checkpoint_section(job.checkpoint),
        "dataset": dataset_section(job, measured.samples),
        "search": measured.search,
        "sensitivity": sensitivity_section(measured.sensitivity, plan),
        "warnings": warnings_section(job, artifacts, dense, measured),
        "latency_ms": measured.latency_ms,
        "seconds": {stage: round(seconds, 3) for stage, seconds in measured.seconds.items()},
        "fine_tuning": fine_tuning_section(measured.fine_tuned),
        "settings": settings,
        "seed": job.settings.seed,
        "fingerprint": f"sha256:{fingerprint(job, settings)}",
        "environment": {"torch": torch.__version__, "adtn": adtn.__version__, **details},
    }


def checkpoint_section(file: FileRecord) -> dict[str, object]:
    """The report's `checkpoint`: how the upload was read."""
    return {"format": file.format, "key_prefix": file.key_prefix, "notes": (file.summary or {}).get("notes", [])}


def dataset_section(job: JobRecord, samples: Mapping[str, int] | None) -> dict[str, object] | None:
    """The report's `dataset`: which samples there were, and how an upload was read; None without data."""
    if samples is None:
        return None
    file = job.dataset
    return {
        "format": job.settings.dataset if file is None else file.format,
        "samples": dict(samples),
        "notes": [] if file is None else (file.summary or {}).get("notes", []),
    }


def accuracy_section(accuracies: Accuracies | None) -> dict[str, object] | None:
    """The report's `accuracy`, or None where nothing could be measured."""
    if accuracies is None:
        return None
    shares = {"baseline": accuracies.baseline, "after_fit": accuracies.after_fit, "final": accuracies.final}
    if accuracies.teacher is not None:
        shares["teacher"] = accuracies.teacher
    return {
        "metric": "top1",
        "teacher": None,
        **shares,
        "samples": accuracies.samples,
        "interval_95": {
            name: [round(end, 6) for end in wilson_interval(share, accuracies.samples)]
            for name, share in shares.items()
        },
        "change": change_section(accuracies.change),
    }


def change_section(change: Change) -> dict[str, object]:
    """How far the compressed model is from the original on the same samples, in percentage points."""
    return {
        "points": round(100 * change.share, 4),
        "interval": [round(100 * end, 4) for end in change.interval],
        "lost": change.lost,
        "won": change.won,
    }


def fine_tuning_section(fine_tuned: adtn.FineTuned | None) -> dict[str, object] | None:
    """The report's `fine_tuning`, or None where nothing was trained."""
    if fine_tuned is None or fine_tuned.samples_per_second is None:
        return None
    return {
        "samples": fine_tuned.samples,
        "samples_per_second": round(fine_tuned.samples_per_second, 1),
        "preparation_seconds": round(fine_tuned.preparation_seconds, 3),
        "cached_bytes": fine_tuned.cached_bytes,
        "not_cached": fine_tuned.not_cached,
    }


def sensitivity_section(sensitivity: Sensitivity | None, plan: Plan) -> dict[str, object] | None:
    """The report's `sensitivity`, or None where nothing was measured."""
    if sensitivity is None:
        return None
    layers = [entry.layer for entry in plan.entries] + [skipped.layer for skipped in plan.skipped]
    return {
        "metric": sensitivity.metric,
        "samples": sensitivity.samples,
        "layers": [
            {
                "name": layer.name,
                "sizes": [{"parameters": size, "loss": round(loss, 6)} for size, loss in sensitivity.points[layer.key]],
            }
            for layer in layers
            if layer.key in sensitivity.points
        ],
    }


def warnings_section(
    job: JobRecord, artifacts: Sequence[Artifact], dense: int, measured: Measurements
) -> list[dict[str, str]]:
    """The report's `warnings`; `dense` is the bytes of the original's tensors."""
    found = caveats(measured.accuracies, artifacts, dense, job.settings.compression, measured.search)
    if measured.sensitivity is not None:
        found += caveats_of_measuring(measured.sensitivity)
    return [*measured.network_caveats, *measured.training_caveats, *found]


def layer_row(entry: PlanEntry, fitted: ADTN, size: int) -> dict[str, object]:
    """One encoded layer."""
    return {
        "name": entry.layer.name,
        "kind": entry.layer.kind,
        "shape": list(entry.layer.shape),
        "parts": [{"name": part.name, "shape": list(part.shape)} for part in entry.layer.parts],
        "original": entry.original,
        "compressed": fitted.gates.numel(),
        "relative_error": round(fitted.relative_error or 0.0, 6),
        "structure": entry.structure.summary(),
        "bits": fitted.bits,
        "bytes": size,
    }


def encoded_bytes(plan: Plan, sizes: Mapping[str, int], original: Mapping[str, Tensor]) -> dict[str, float]:
    """Bytes of the encoded weights together: dense in the checkpoint, and as gates, without the file's header."""
    dense = sum(original[weight.key].nbytes for entry in plan.entries for weight in entry.layer.weights)
    gates = sum(sizes[entry.layer.key] for entry in plan.entries)
    return {"original": dense, "compressed": gates, "ratio": round(dense / gates, 2)}


UNFINGERPRINTED = {"name", "metadata", "checkpoint", "dataset"}
"""Settings on which no result depends: of files the content counts, and not under which id they were uploaded."""


def fingerprint(job: JobRecord, settings: Mapping[str, object]) -> str:
    """A digest of all that the result depends on: files, settings, seed, code."""
    parts = {
        "checkpoint": job.checkpoint.sha256,
        "dataset": job.dataset.sha256 if job.dataset else job.settings.dataset,
        "settings": {key: value for key, value in settings.items() if key not in UNFINGERPRINTED},
        "adtn": adtn.__version__,
        "torch": torch.__version__,
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
