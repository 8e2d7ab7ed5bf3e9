"""The two jobs of a published model through the service, and everything that they make."""

import time
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from adtn_client import Client
from bench.published.model import Published
from bench.published.samples import Samples, save
from bench.service import upload

EXPORTS = ("adtn", "dense", "dense_pt", "onnx", "pt2")
EXPORTS_ALONE = ("adtn", "dense", "dense_pt")
PROGRAM, DATA = "original.pt2", "samples.safetensors"


class Finished(NamedTuple):
    """The report of a job, the folder with its artifacts, and how long it took, uploads and downloads left out."""

    report: dict[str, Any]
    folder: Path
    seconds: float


def with_data(client: Client, model: Published, samples: Samples, folder: Path) -> Finished:
    """Export the model as a user does, upload it with its data, compress, fine-tune and download.

    Args:
        client: Of the running service.
        model: To compress.
        samples: Of the model.
        folder: Where files are put: `PROGRAM` is what was uploaded.

    Raises:
        JobNotSucceeded: The job failed.
        SystemExit: An upload was rejected.
    """
    save_program(model.original(), samples.test.inputs[:2].to(model.dtype), folder / PROGRAM)
    save(samples, folder / DATA)
    sources = {
        "checkpoint": upload(client, folder / PROGRAM, "checkpoint"),
        "dataset": upload(client, folder / DATA, "dataset"),
    }
    return _run(client, {**sources, **model.settings}, EXPORTS, folder / "with_data")


def alone(client: Client, model: Published, folder: Path) -> Finished:
    """Upload the file of weights as it is shipped, fit, and download; raises as `with_data` does."""
    checkpoint = upload(client, model.shipped(), "checkpoint")
    return _run(client, {"checkpoint": checkpoint, **model.settings_alone}, EXPORTS_ALONE, folder / "alone")


def save_program(model: nn.Module, inputs: torch.Tensor, path: Path) -> None:
    """Write a program for batches of any size.

    Args:
        model: With one input.
        inputs: A batch.
        path: Of the `.pt2` file.
    """
    example = inputs.clone()  # the file holds it, with all the memory that it is a part of
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of torch, on how its own LSTM keeps its weights
        program = torch.export.export(model, (example,), dynamic_shapes=({0: torch.export.Dim("batch")},))
    torch.export.save(program, path)


def _run(client: Client, settings: Mapping[str, Any], exports: Sequence[str], folder: Path) -> Finished:
    started = time.perf_counter()
    job = client.jobs.wait(client.jobs.create({**settings, "exports": list(exports)}).id)
    seconds = time.perf_counter() - started
    assert job.report is not None, "a job that succeeded has a report"
    folder.mkdir()
    for artifact in job.artifacts:
        client.jobs.download(job.id, artifact.name, folder)
    return Finished(job.report, folder, round(seconds, 1))
