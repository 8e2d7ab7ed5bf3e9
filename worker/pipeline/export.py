"""Stage `export`: the compressed model as files, with the keys, shapes, dtypes and ties of the checkpoint."""

import hashlib
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

import adtn
from adtn import standalone
from adtn.exporting import traced
from adtn.ties import gather_ties
from adtn.tracing import PlainADTN
from jobs.catalogue import PROGRAM_WITHOUT_NETWORK, PROGRAMS
from jobs.planning import fault
from worker.pipeline.inspect import Inputs
from worker.weights import under_prefix

ADTN_FILE = "model.adtn.safetensors"
LOADER_FILE = "adtn_loader.py"
DENSE_FILE = "model.dense.safetensors"
PT_FILE = "model.dense.pt"
ONNX_FILE = "model.onnx"
PT2_FILE = "model.pt2"

ONNX_PACKAGES = ("onnx", "onnxscript", "onnxruntime")


@dataclass(frozen=True)
class Artifact:
    """A file that a job made."""

    name: str
    kind: str
    path: Path

    @property
    def bytes(self) -> int:
        """Its size."""
        return self.path.stat().st_size

    @property
    def sha256(self) -> str:
        """Its digest, in hexadecimal."""
        with self.path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()


@dataclass(frozen=True)
class Compressed:
    """What is exported.

    Attributes:
        model: The compressed model, its dtypes those of the checkpoint.
        state: The same model as a dense state dict with the checkpoint's keys, but for the prefix.
        input_shape: Of one sample, or None where there are weights alone.
        key_prefix: What stood before every key in the upload.
    """

    model: nn.Module
    state: dict[str, Tensor]
    input_shape: tuple[int, ...] | None
    key_prefix: str


def require_possible(exports: Sequence[str], inputs: Inputs) -> None:
    """Refuse exports that cannot be made, before hours of work.

    Raises:
        ProblemError: export_impossible: a program is asked for where there are weights alone or a graph for batches of
            some sizes only, or ONNX where its packages are not installed.
        ExportError: The network cannot be traced.
    """
    programs = [name for name in exports if name in PROGRAMS]
    if not programs:
        return
    if inputs.architecture is None:
        raise fault("export_impossible", "/exports", f"{', '.join(programs)}: {PROGRAM_WITHOUT_NETWORK}")
    graph = inputs.blueprint.graph
    if graph is not None and not graph.input.batch.is_any:
        detail = (
            f"{', '.join(programs)}: expected a graph for batches of any size, got one for {graph.input.batch}: export "
            "the model with a dynamic batch dimension"
        )
        raise fault("export_impossible", "/exports", detail)
    missing = [name for name in ONNX_PACKAGES if "onnx" in programs and find_spec(name) is None]
    if missing:
        detail = f"onnx: expected a worker with the extra 'onnx' (pip install 'adtn[onnx]'), this one lacks {missing}"
        raise fault("export_impossible", "/exports", detail)
    traced(inputs.model, inputs.architecture.input_shape, PlainADTN)


def export(compressed: Compressed, exports: Sequence[str], folder: Path) -> list[Artifact]:
    """Write the artifacts that hold the model.

    Args:
        compressed: The model.
        exports: What `jobs.schemas.settings.Export` lists.
        folder: Where to write.

    Raises:
        ExportError: The model has no form as a program.
    """
    return [artifact for name in exports for artifact in _WRITERS[name](compressed, folder)]


def _adtn(compressed: Compressed, folder: Path) -> list[Artifact]:
    """Gates and the rest, and the loader that needs nothing of this project."""
    path, loader = folder / ADTN_FILE, folder / LOADER_FILE
    adtn.save(under_prefix(compressed.model, compressed.key_prefix), path)
    shutil.copyfile(standalone.__file__, loader)
    return [Artifact(ADTN_FILE, "adtn", path), Artifact(LOADER_FILE, "loader", loader)]


def _dense(compressed: Compressed, folder: Path) -> list[Artifact]:
    path, prefix = folder / DENSE_FILE, compressed.key_prefix
    # A file that any loader takes has bytes of its own for each key, so tied tensors are written once a key.
    dense = {f"{prefix}{key}": tensor.clone().contiguous() for key, tensor in compressed.state.items()}
    save_file(dense, path, {"format": "pt"})
    return [Artifact(DENSE_FILE, "dense", path)]


def _dense_pt(compressed: Compressed, folder: Path) -> list[Artifact]:
    path, prefix = folder / PT_FILE, compressed.key_prefix
    kept, aliases = gather_ties(compressed.state)
    # Copied, because a tensor is written with all the memory that it is a part of.
    own = {key: tensor.detach().clone().contiguous() for key, tensor in kept.items()}
    torch.save({f"{prefix}{key}": own[aliases.get(key, key)] for key in compressed.state}, path)
    return [Artifact(PT_FILE, "dense_pt", path)]


def _onnx(compressed: Compressed, folder: Path) -> list[Artifact]:
    assert compressed.input_shape is not None
    adtn.save_onnx(compressed.model, compressed.input_shape, folder / ONNX_FILE)
    return [Artifact(ONNX_FILE, "onnx", folder / ONNX_FILE)]


def _pt2(compressed: Compressed, folder: Path) -> list[Artifact]:
    assert compressed.input_shape is not None
    adtn.save_program(compressed.model, compressed.input_shape, folder / PT2_FILE)
    return [Artifact(PT2_FILE, "pt2", folder / PT2_FILE)]


_WRITERS: dict[str, Callable[[Compressed, Path], list[Artifact]]] = {
    "adtn": _adtn,
    "dense": _dense,
    "dense_pt": _dense_pt,
    "onnx": _onnx,
    "pt2": _pt2,
}
