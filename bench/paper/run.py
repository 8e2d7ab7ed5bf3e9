"""Every row through the running service: upload, compress, download, evaluate the download here, store."""

import json
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from safetensors.torch import load_file

from adtn_client import Client
from bench.paper.baseline import OUT, Baseline, accuracy, baseline
from bench.paper.data import Images, pack, read
from bench.paper.rows import ROWS, Row, training_of
from bench.record import RESULTS, provenance
from bench.service import check_claims, running_service, stored_numbers, upload

COMMAND = "python -m bench paper --mnist FOLDER"


@dataclass(frozen=True)
class Wanted:
    """What is to be run.

    Args:
        sources: Where data are: see `bench.paper.data.read`. Rows without data are left out.
        rows: Names; all by default.
        seed: Of baseline and job.
        images: Of the training images; None for as many as the rows say. Few make a trial that is stored apart.
    """

    sources: Mapping[str, Path]
    rows: Sequence[str] = tuple(row.name for row in ROWS)
    seed: int = 0
    images: int | None = None


def results_path(wanted: Wanted) -> Path:
    """Where rows are stored."""
    return RESULTS / "paper.json" if wanted.images is None else OUT / "trial.json"


def run(wanted: Wanted) -> list[str]:
    """Run what is missing, each row stored as soon as it has finished.

    Returns:
        The rows whose promise is not kept, with the reason.

    Raises:
        SystemExit: A download is not what the report says.
    """
    path = results_path(wanted)
    stored: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    with tempfile.TemporaryDirectory() as name, running_service(Path(name) / "service") as url, Client(url) as client:
        for row in ROWS:
            source = row.data if row.data.startswith("cifar") else "mnist"
            if row.name in wanted.rows and row.name not in stored and source in wanted.sources:
                stored[row.name] = measured(client, row, wanted, Path(name))
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(json.dumps(stored, indent=2) + "\n")
                print(f"{row.title}: {summary(stored[row.name])}", flush=True)
    return [
        f"{row.title}: expected at most {row.parameters} numbers, got {stored[row.name]['compressed']}"
        for row in ROWS
        if row.name in stored and stored[row.name]["compressed"] > row.parameters
    ]


def measured(client: Client, row: Row, wanted: Wanted, folder: Path) -> dict[str, Any]:
    """Train or take the original, run the job, check what is downloaded."""
    training = training_of(row)
    if wanted.images is not None:
        training = replace(training, images=wanted.images)
    images = read(row.data, wanted.sources, training)
    if wanted.images is not None:
        images = images._replace(test=type(images.test)(*(tensor[: wanted.images] for tensor in images.test)))
    original = baseline(row, images, training, wanted.seed)
    pack(images, folder / "images.npz")
    started = time.perf_counter()
    settings = {
        "checkpoint": upload(client, original.path, "checkpoint"),
        "architecture": row.network,
        "dataset": upload(client, folder / "images.npz", "dataset"),
        "compression": {
            "layers": [list(item) if isinstance(item, tuple) else item for item in row.layers],
            "target": {"parameters": row.parameters},
        },
        **row.settings,
        "seed": wanted.seed,
    }
    job = client.jobs.create(settings)
    report = client.jobs.wait(job.id).report
    assert report is not None
    seconds = time.perf_counter() - started
    for artifact in ("model.adtn.safetensors", "model.dense.safetensors"):
        client.jobs.download(job.id, artifact, folder / artifact)
    check(original, images, report, folder)
    return {
        "provenance": provenance(COMMAND, [wanted.seed]),
        "images": len(images.train.images),
        "epochs": training.epochs,
        "original": report["parameters"]["encoded"]["original"],
        "compressed": report["parameters"]["encoded"]["compressed"],
        "layers": report["parameters"]["layers"],
        "bytes": report["bytes"]["artifacts"]["model.adtn.safetensors"],
        **{name: report["accuracy"][name] for name in ("baseline", "after_fit", "final", "samples", "interval_95")},
        "seconds": {"baseline": round(original.seconds, 1), "job": round(seconds, 1), **report["seconds"]},
        "fine_tuning": report["fine_tuning"],
    }


def check(original: Baseline, images: Images, report: dict[str, Any], folder: Path) -> None:
    """Refuse a report that is not what the files and this process say."""
    before = accuracy(original.model, *images.test)
    compressed = original.model  # the same network, with the other weights
    compressed.load_state_dict(load_file(folder / "model.dense.safetensors"))
    check_claims(
        {
            "accuracy of the original": (before, report["accuracy"]["baseline"]),
            "accuracy of the download": (accuracy(compressed, *images.test), report["accuracy"]["final"]),
            "numbers in the file": (
                stored_numbers(folder / "model.adtn.safetensors"),
                report["parameters"]["encoded"]["compressed"],
            ),
        }
    )


def summary(found: Mapping[str, Any]) -> str:
    """What came out, for the eye."""
    return (
        f"{found['original']:,} -> {found['compressed']:,} numbers, {100 * found['baseline']:.2f} -> "
        f"{100 * found['final']:.2f} %, {found['seconds']['job']:.0f} s"
    )
