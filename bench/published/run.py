"""Every published model through the running service; stored as soon as it is measured and checked."""

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from adtn_client import Client
from bench.published.checks import bytes_of_numbers, check_alone, check_with_data
from bench.published.crepe import CREPE
from bench.published.forms import ADTN_FILE
from bench.published.identifier import IDENTIFIER
from bench.published.job import alone, with_data
from bench.published.latency import measured
from bench.published.model import Published
from bench.record import RESULTS, provenance, store
from bench.service import running_service

NAME = "published"
MODELS = (CREPE, IDENTIFIER)


def run(names: Sequence[str] | None) -> None:
    """Compress models, check what comes down, measure it, and store the result beside those of the others.

    Args:
        names: Of models; None for all.

    Raises:
        SystemExit: A name is unknown, or something is not as the service says.
    """
    unknown = set(names or ()) - {model.name for model in MODELS}
    if unknown:
        raise SystemExit(f"--models: expected names among {[model.name for model in MODELS]}, got {sorted(unknown)}")
    with tempfile.TemporaryDirectory() as name, running_service(Path(name) / "service") as url, Client(url) as client:
        for model in MODELS:
            if names is None or model.name in names:
                print(f"{model.title}: started", flush=True)
                folder = Path(name) / model.name
                folder.mkdir()
                store(NAME, {**stored(), model.name: result(client, model, folder)})


def stored() -> dict[str, Any]:
    """The results so far, by the models' names."""
    path = RESULTS / f"{NAME}.json"
    found: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    return found


def result(client: Client, model: Published, folder: Path) -> dict[str, Any]:
    """Both jobs of a model.

    Raises:
        JobNotSucceeded: A job failed.
        SystemExit: Something is not as the service says.
    """
    samples = model.samples(model.empty())
    tuned = with_data(client, model, samples, folder)
    fitted = alone(client, model, folder)
    forms = check_with_data(model, samples.test, tuned)
    accuracy_alone = check_alone(model, samples.test, fitted)
    rows = measured(model, samples.test.inputs, folder, tuned.folder)
    return {
        "provenance": provenance(f"python -m bench published --models {model.name}", [tuned.report["seed"]]),
        "package": {"requirement": model.package.requirement, "licence": model.package.licence},
        "settings": dict(model.settings),
        "samples": {"train": len(samples.train.labels), "test": len(samples.test.labels)},
        "accuracy": tuned.report["accuracy"],
        "parameters": tuned.report["parameters"],
        "numbers_bytes": bytes_of_numbers(tuned.folder / ADTN_FILE),
        "artifacts": tuned.report["bytes"]["artifacts"],
        "forms": forms,
        "rows": rows,
        "seconds": {"job": tuned.seconds, **tuned.report["seconds"]},
        "alone": {
            "settings": dict(model.settings_alone),
            "parameters": fitted.report["parameters"],
            "artifacts": fitted.report["bytes"]["artifacts"],
            "accuracy": accuracy_alone,
            "seconds": fitted.seconds,
        },
    }
