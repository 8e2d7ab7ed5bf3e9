"""The header of a compressed checkpoint: what is encoded and how, as one JSON string in the file's metadata."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from adtn.errors import FormatError, StructureError
from adtn.start import WEIGHT_DTYPES
from adtn.structure import AnyStructure, structure_from_json

FORMAT_VERSION = 1
METADATA_KEY = "adtn"
_FIELDS = {"version", "encoded", "aliases"}
_DTYPES = {str(dtype).removeprefix("torch."): dtype for dtype in WEIGHT_DTYPES}


@dataclass(frozen=True)
class Encoded:
    """An encoded weight: what its gates decode to.

    Args:
        shape: Of the weight.
        dtype: Of the weight.
        structure: Of the tensor network, or the sum of several.
    """

    shape: tuple[int, ...]
    dtype: torch.dtype
    structure: AnyStructure


@dataclass(frozen=True)
class Header:
    """What a file says about itself.

    Args:
        encoded: Encoded weights by their key in the dense state_dict.
        aliases: Further keys of tied tensors, encoded or dense, to the key that is stored.
    """

    encoded: Mapping[str, Encoded]
    aliases: Mapping[str, str]

    def to_text(self) -> str:
        """The JSON string that `parse_header` reads."""
        encoded = {
            key: {
                "shape": list(item.shape),
                "dtype": str(item.dtype).removeprefix("torch."),
                "structure": item.structure.to_json(),
            }
            for key, item in self.encoded.items()
        }
        return json.dumps({"version": FORMAT_VERSION, "encoded": encoded, "aliases": dict(self.aliases)})


def parse_header(metadata: Mapping[str, str] | None, where: str) -> Header:
    """Read and check the header.

    Args:
        metadata: Of the safetensors file.
        where: The file, for messages.

    Raises:
        FormatError: There is no header, it is not valid, or a newer version wrote it.
    """
    if not metadata or METADATA_KEY not in metadata:
        raise FormatError(f"{where}: expected the metadata entry {METADATA_KEY!r}; this is not a compressed checkpoint")
    try:
        data = json.loads(metadata[METADATA_KEY])
    except (ValueError, RecursionError) as error:
        raise FormatError(f"{where}: the metadata entry {METADATA_KEY!r} is not JSON: {error}") from None
    version = data.get("version") if isinstance(data, dict) else None
    if type(version) is not int or version < 1:
        raise FormatError(f"{where}: expected a format version, got {version!r}")
    if version > FORMAT_VERSION:
        raise FormatError(
            f"{where}: expected format version {FORMAT_VERSION} or older, got {version}; a newer adtn wrote this file"
        )
    if set(data) != _FIELDS or not isinstance(data["encoded"], dict) or not isinstance(data["aliases"], dict):
        raise FormatError(f"{where}: expected the fields {sorted(_FIELDS)} in the header, got {sorted(data)}")
    encoded = {key: _parse_encoded(key, item, where) for key, item in data["encoded"].items()}
    return Header(encoded, _parse_aliases(data["aliases"], where))


def _parse_encoded(key: str, item: Any, where: str) -> Encoded:
    """One encoded weight of the header."""
    if not isinstance(item, dict) or set(item) != {"shape", "dtype", "structure"}:
        raise FormatError(f"{where}: {key}: expected shape, dtype and structure, got {item!r:.120}")
    shape, dtype = item["shape"], item["dtype"]
    if not isinstance(shape, list) or not all(type(n) is int and n > 0 for n in shape):
        raise FormatError(f"{where}: {key}: expected a shape of positive integers, got {shape!r:.120}")
    if not isinstance(dtype, str) or dtype not in _DTYPES:
        raise FormatError(f"{where}: {key}: expected a dtype of {', '.join(_DTYPES)}, got {dtype!r:.120}")
    try:
        structure = structure_from_json(item["structure"])
    except StructureError as error:
        raise FormatError(f"{where}: {key}: {error}") from None
    entries = torch.Size(shape).numel()
    if entries > structure.size:
        raise FormatError(
            f"{where}: {key}: shape {shape} has {entries} entries, but the structure holds {structure.size}"
        )
    return Encoded(tuple(shape), _DTYPES[dtype], structure)


def _parse_aliases(aliases: Mapping[str, Any], where: str) -> dict[str, str]:
    """Further keys of tied tensors; none may point to another alias."""
    for alias, key in aliases.items():
        if not isinstance(key, str) or key in aliases:
            raise FormatError(f"{where}: expected alias {alias!r} to name a stored tensor, got {key!r:.120}")
    return dict(aliases)
