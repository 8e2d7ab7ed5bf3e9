"""One row through the service: upload, compress, download, and evaluate the download here."""

import time
from pathlib import Path
from typing import Any, NamedTuple

from safetensors.torch import load_file
from torch import nn

from adtn_client import Client
from bench.paper.baseline import Baseline, accuracy
from bench.paper.data import Images, pack
from bench.paper.rows import CONVOLUTIONS, Row
from bench.service import check_claims, stored_numbers, upload

ENCODED, DENSE = "model.adtn.safetensors", "model.dense.safetensors"
TOLERANCE = {"cpu": 0.0, "cuda": 0.001}
"""Of an accuracy: this process evaluates on the CPU, and a GPU rounds sums in another way."""


class Finished(NamedTuple):
    """The report of a job, and how long it took from the uploads on."""

    report: dict[str, Any]
    seconds: float


def compress(client: Client, row: Row, original: Baseline, images: Images, seed: int, folder: Path) -> Finished:
    """Upload, run the job of a row and download its artifacts into `folder`.

    Raises:
        JobNotSucceeded: The job failed.
        SystemExit: An upload was rejected.
    """
    pack(images, folder / "images.npz")
    started = time.perf_counter()
    settings = {
        "checkpoint": upload(client, original.path, "checkpoint"),
        "architecture": row.network,
        "dataset": upload(client, folder / "images.npz", "dataset"),
        "compression": {
            "layers": [list(item) if isinstance(item, tuple) else item for item in layers_of(row, original.model)],
            "structure": row.structure,
            "target": {"parameters": row.parameters},
        },
        "normalize": images.normalize,
        **row.settings,
        "seed": seed,
    }
    job = client.jobs.create(settings)
    report = client.jobs.wait(job.id).report
    assert report is not None, "a job that succeeded has a report"
    seconds = time.perf_counter() - started
    for artifact in (ENCODED, DENSE):
        client.jobs.download(job.id, artifact, folder / artifact)
    return Finished(report, round(seconds, 1))


def layers_of(row: Row, model: nn.Module) -> tuple[str | tuple[str, ...], ...]:
    """The layers of a row in its network; the last convolutions have other names without batch norm."""
    if row.layers != CONVOLUTIONS:
        return row.layers
    names = [name for name, module in model.named_modules() if isinstance(module, nn.Conv2d)]
    return tuple(names[-len(CONVOLUTIONS) :])


def check(original: Baseline, images: Images, report: dict[str, Any], folder: Path) -> None:
    """Refuse a report that is not what the files in `folder` and this process say; `original.model` gets their weights.

    Raises:
        SystemExit: A figure differs.
    """
    before = accuracy(original.model, images)
    original.model.load_state_dict(load_file(folder / DENSE))
    after = accuracy(original.model, images)
    stored = stored_numbers(folder / ENCODED)
    check_claims({"numbers in the file": (stored, report["parameters"]["encoded"]["compressed"])})
    check_claims(
        {
            "accuracy of the original": (before, report["accuracy"]["baseline"]),
            "accuracy of the download": (after, report["accuracy"]["final"]),
        },
        TOLERANCE[report["environment"]["device"]],
    )
