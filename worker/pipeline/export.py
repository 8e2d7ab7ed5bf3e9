"""Stage `export`: the compressed model as files, with the keys, shapes, dtypes and ties of the checkpoint."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor, nn

import adtn
from worker.weights import under_prefix

ADTN_FILE = "model.adtn.safetensors"
DENSE_FILE = "model.dense.safetensors"


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


def export(
    model: nn.Module, state: dict[str, Tensor], exports: Sequence[str], folder: Path, key_prefix: str
) -> list[Artifact]:
    """Write the artifacts that hold the model.

    Args:
        model: The compressed model, its dtypes those of the checkpoint.
        state: The same model as a dense state dict with the checkpoint's keys, but for the prefix.
        exports: "adtn", "dense" or both.
        folder: Where to write.
        key_prefix: What stood before every key in the upload.
    """
    artifacts = []
    if "adtn" in exports:
        path = folder / ADTN_FILE
        adtn.save(under_prefix(model, key_prefix), path)
        artifacts.append(Artifact(ADTN_FILE, "adtn", path))
    if "dense" in exports:
        path = folder / DENSE_FILE
        # A file that any loader takes has bytes of its own for each key, so tied tensors are written once a key.
        dense = {f"{key_prefix}{key}": tensor.clone().contiguous() for key, tensor in state.items()}
        save_file(dense, path, {"format": "pt"})
        artifacts.append(Artifact(DENSE_FILE, "dense", path))
    return artifacts
