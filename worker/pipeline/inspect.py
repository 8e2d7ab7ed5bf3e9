"""Stage `inspect`: the checkpoint becomes a model, the data set fits it, and the baseline is measured."""

from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from adtn import Layer, layers_of, layers_of_state
from jobs.files import FileRecord
from jobs.records import JobRecord
from jobs.store import Store
from worker import architectures, datasets
from worker.architectures import Architecture
from worker.augmentation import augmentation
from worker.datasets import Dataset
from worker.weights import bare_module, read_state


@dataclass
class Inputs:
    """What a job starts from.

    Attributes:
        state: The checkpoint as uploaded: original keys, dtypes, ties.
        model: The module to compress, holding `state`; a bare module where no architecture was named.
        layers: What of it can be encoded.
        architecture: How `model` was built, if from a name.
        dataset: The data, if any, shaped for the model.
    """

    state: dict[str, Tensor]
    model: nn.Module
    layers: tuple[Layer, ...]
    architecture: Architecture | None
    dataset: Dataset | None
    files: dict[str, Path] = field(default_factory=dict)


def inspect(job: JobRecord, store: Store, folder: Path, device: torch.device) -> Inputs:
    """Fetch the job's checked files and build what they describe.

    Raises:
        ProblemError: The checkpoint does not fit the architecture, or the data set does not fit the model.
    """
    settings = job.settings
    checkpoint = fetch(job.checkpoint, store, folder)
    state = read_state(checkpoint, job.checkpoint.aliases or {})
    files = {"checkpoint": checkpoint}
    if settings.architecture is None:
        return Inputs(state, bare_module(state), layers_of_state(state), None, None, files)

    dataset = None
    if settings.dataset is not None:
        if job.dataset is not None:
            files["dataset"] = fetch(job.dataset, store, folder)
        source = files.get("dataset", settings.dataset)
        normalize = settings.normalize.model_dump() if settings.normalize else None
        dataset = datasets.load(source, normalize, settings.image.resize)
    architecture = architectures.build(
        settings.architecture, state, tuple(dataset.train_x.shape[1:]) if dataset else None
    )
    model = architecture.model.to(device)
    if dataset is not None:
        dataset = datasets.fitted(dataset, architecture)
        augmentation(settings, dataset.train_x.shape[1:])  # refused before hours of work, not after
    return Inputs(state, model, layers_of(model), architecture, dataset, files)


def fetch(file: FileRecord, store: Store, folder: Path) -> Path:
    """Copy a file's checked tensors from the store into the job's folder."""
    path = folder / f"{file.purpose}.safetensors"
    store.get_to_file(file.checked_key, path)
    return path
