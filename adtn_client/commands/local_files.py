"""Reading safetensors headers without torch, and finding the library for what needs it."""

import json
import math
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import ModuleType

from adtn_client.errors import LocalError

# As in the format's own readers: no sensible header is larger.
MAX_HEADER_BYTES = 100_000_000


@dataclass(frozen=True)
class StoredTensor:
    """What the header of a safetensors file says about a tensor."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    bytes: int

    @property
    def entries(self) -> int:
        """How many numbers it holds."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class SafetensorsHeader:
    """Tensors by the order of their bytes, and the metadata."""

    tensors: tuple[StoredTensor, ...]
    metadata: dict[str, str]


def read_header(path: Path) -> SafetensorsHeader:
    """Read the header of a safetensors file.

    Raises:
        LocalError: The file cannot be read or is not safetensors.
    """
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if not 2 <= length <= MAX_HEADER_BYTES:
                raise ValueError("its first 8 bytes are not the length of a header")
            header = json.loads(file.read(length))
        metadata = header.pop("__metadata__", {})
        spans = sorted(header.items(), key=lambda item: item[1]["data_offsets"])
        tensors = [
            StoredTensor(name, str(entry["dtype"]), tuple(map(int, entry["shape"])), int(end - start))
            for name, entry in spans
            for start, end in [entry["data_offsets"]]
        ]
    except OSError as error:
        raise LocalError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise LocalError(f"{path} is not a safetensors file: {error}") from error
    return SafetensorsHeader(tuple(tensors), {str(key): str(value) for key, value in metadata.items()})


def library(module: str) -> ModuleType:
    """Import a module that needs torch.

    Raises:
        LocalError: It is not installed.
    """
    try:
        return import_module(module)
    except ImportError as error:
        raise LocalError(f"this command needs PyTorch on this machine, and {error.name} is not installed") from error
