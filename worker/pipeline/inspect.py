"""Stage `inspect`: the checkpoint becomes a model, the data set fits it, and the baseline is measured."""

from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from adtn import Layer, layers_of, layers_of_state
from jobs.catalogue import DATA_WITHOUT_NETWORK
from jobs.files import FileRecord
from jobs.problems import Fault, ProblemError
from jobs.records import JobRecord
from jobs.store import Store
from worker import datasets
from worker.architectures import Architecture
from worker.augmentation import augmentation
from worker.blueprint import Blueprint, blueprint_for
from worker.datasets import Dataset
from worker.graphs.layers import layers_of_graph
from worker.weights import bare_module, read_state


@dataclass
class Inputs:
    """What a job starts from.

    Attributes:
        state: The checkpoint as uploaded: original keys, dtypes, ties.
        model: The module to compress, holding `state`; a bare module where there are weights alone.
        layers: What of it can be encoded.
        blueprint: From what `model` was built.
        architecture: What was built; None where there are weights alone.
        dataset: The data, if any, shaped for the model.
    """

    state: dict[str, Tensor]
    model: nn.Module
    layers: tuple[Layer, ...]
    blueprint: Blueprint
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
    blueprint = blueprint_for(settings.architecture, settings.architecture_config, checkpoint)
    if not blueprint.is_known:
        if settings.dataset is not None:
            fault = Fault("/dataset", DATA_WITHOUT_NETWORK, "validation_failed")
            raise ProblemError("validation_failed", DATA_WITHOUT_NETWORK, [fault])
        return Inputs(state, bare_module(state), layers_of_state(state), blueprint, None, None, files)

    dataset = None
    if settings.dataset is not None:
        if job.dataset is not None:
            files["dataset"] = fetch(job.dataset, store, folder)
        else:
            files["dataset"] = datasets.write_named(settings.dataset, folder)
        normalize = settings.normalize.model_dump() if settings.normalize else None
        dataset = datasets.load(files["dataset"], normalize, settings.image.resize)
    architecture = blueprint.build(state, tuple(dataset.train_x.shape[1:]) if dataset else None)
    model = architecture.model.to(device)
    if dataset is not None:
        dataset = datasets.fitted(dataset, architecture)
        augmentation(settings, dataset.train_x.shape[1:])  # refused before hours of work, not after
    graph = blueprint.graph
    layers = layers_of(model) if graph is None else layers_of_graph(graph, state)
    # What a model calls by another name than the checkpoint, as tied embeddings may be, stays dense.
    layers = tuple(layer for layer in layers if layer.key in state)
    return Inputs(state, model, layers, blueprint, architecture, dataset, files)


def fetch(file: FileRecord, store: Store, folder: Path) -> Path:
    """Copy a file's checked tensors from the store into the job's folder."""
    path = folder / f"{file.purpose}.safetensors"
    store.get_to_file(file.checked_key, path)
    return path
