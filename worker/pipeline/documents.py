"""What goes with the artifacts that hold the model: how to make them again, how to use them, and their digests."""

import json
import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from jobs.records import JobRecord
from worker.pipeline.export import Artifact
from worker.pipeline.model_card import model_card
from worker.pipeline.pareto import pareto_svg

CARD_FILE = "README.md"
CHECKSUMS_FILE = "SHA256SUMS"
_PACKAGES = ("adtn", "torch", "safetensors", "numpy", "numba")
"""Whose versions may change a bit of the result."""


def write_documents(
    job: JobRecord, report: Mapping[str, Any], artifacts: Sequence[Artifact], folder: Path
) -> list[Artifact]:
    """Write the report, the recipe, the model card, the plot of a search, and the digests of all artifacts.

    Args:
        job: The job.
        report: Its report, complete.
        artifacts: The files that hold the model.
        folder: Where to write.

    Returns:
        What was written.
    """
    written = [
        _write(folder, "report.json", "report", _json(report)),
        _write(folder, "recipe.json", "recipe", _json(recipe(job, report["settings"]))),
        _write(folder, CARD_FILE, "card", model_card(report, [artifact.name for artifact in artifacts])),
    ]
    if report["search"] is not None:
        written.append(_write(folder, "pareto.svg", "plot", pareto_svg(report["search"])))
    written.append(_write(folder, CHECKSUMS_FILE, "checksums", checksums([*artifacts, *written])))
    return written


def recipe(job: JobRecord, settings: Mapping[str, Any]) -> dict[str, Any]:
    """A request that makes the same job, and with which files and versions it was made.

    Args:
        job: The job.
        settings: Its settings with every default filled in.
    """
    files = {"checkpoint": job.checkpoint, "dataset": job.dataset}
    return {
        **settings,
        "made_with": {
            "sha256": {name: file.sha256 for name, file in files.items() if file is not None},
            "versions": {"python": platform.python_version(), **{name: version(name) for name in _PACKAGES}},
        },
    }


def checksums(artifacts: Sequence[Artifact]) -> str:
    """The digests in the form that `sha256sum -c` reads.

    Args:
        artifacts: Files.
    """
    return "".join(f"{artifact.sha256}  {artifact.name}\n" for artifact in artifacts)


def _json(value: object) -> str:
    return json.dumps(value, indent=2, sort_keys=False) + "\n"


def _write(folder: Path, name: str, kind: str, text: str) -> Artifact:
    path = folder / name
    path.write_text(text)
    return Artifact(name, kind, path)
