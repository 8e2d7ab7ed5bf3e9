"""The header of a compressed checkpoint: what is encoded and how, as one JSON string in the file's metadata."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from adtn.balancing import scale_groups
from adtn.errors import FormatError, ShapeError, StructureError
from adtn.quantising import check_bits
from adtn.start import WEIGHT_DTYPES
from adtn.structure import AnyStructure, structure_from_json

FORMAT_VERSION = 2
"""The newest that is read. What is written is the oldest that can hold it."""
METADATA_KEY = "adtn"
_FIELDS = {"version", "encoded", "aliases"}
_ENTRY = {"shape", "dtype", "structure"}
_INTEGER_ENTRY = _ENTRY | {"bits", "scales"}  # since version 2
_SCALES = (2.0**-100, 2.0**100)
_DTYPES = {str(dtype).removeprefix("torch."): dtype for dtype in WEIGHT_DTYPES}


@dataclass(frozen=True)
class Encoded:
    """An encoded weight: what its gates decode to.

    Args:
        shape: Of the weight.
        dtype: Of the weight.
        structure: Of the tensor network, or the sum of several.
        bits: Of each integer that is stored for the gates, or None: they are floats.
        scales: With bits, one a group of gates: see `adtn.balancing.scale_groups`. Else none.
    """

    shape: tuple[int, ...]
    dtype: torch.dtype
    structure: AnyStructure
    bits: int | None = None
    scales: tuple[float, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """As JSON-compatible data."""
        data: dict[str, Any] = {
            "shape": list(self.shape),
            "dtype": str(self.dtype).removeprefix("torch."),
            "structure": self.structure.to_json(),
        }
        if self.bits is not None:
            data |= {"bits": self.bits, "scales": list(self.scales)}
        return data


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
        version = 2 if any(item.bits is not None for item in self.encoded.values()) else 1
        encoded = {key: item.to_json() for key, item in self.encoded.items()}
        data = {"version": version, "encoded": encoded, "aliases": dict(self.aliases)}
        return json.dumps(data, separators=(",", ":"))


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
    encoded = {key: _parse_encoded(item, f"{where}: {key}", version) for key, item in data["encoded"].items()}
    return Header(encoded, _parse_aliases(data["aliases"], where))


def _parse_encoded(item: Any, where: str, version: int) -> Encoded:
    """One encoded weight of the header."""
    fields = (_ENTRY,) if version == 1 else (_ENTRY, _INTEGER_ENTRY)
    if not isinstance(item, dict) or set(item) not in fields:
        with_bits = "" if version == 1 else ", with bits also scales"
        raise FormatError(f"{where}: expected shape, dtype and structure{with_bits}, got {item!r:.120}")
    shape, dtype = item["shape"], item["dtype"]
    if not isinstance(shape, list) or not all(type(n) is int and n > 0 for n in shape):
        raise FormatError(f"{where}: expected a shape of positive integers, got {shape!r:.120}")
    if not isinstance(dtype, str) or dtype not in _DTYPES:
        raise FormatError(f"{where}: expected a dtype of {', '.join(_DTYPES)}, got {dtype!r:.120}")
    try:
        structure = structure_from_json(item["structure"])
        bits = check_bits(item["bits"]) if "bits" in item else None
    except (StructureError, ShapeError) as error:
        raise FormatError(f"{where}: {error}") from None
    entries = torch.Size(shape).numel()
    if entries > structure.size:
        raise FormatError(f"{where}: shape {shape} has {entries} entries, but the structure holds {structure.size}")
    scales = () if bits is None else _parse_scales(item["scales"], len(scale_groups(structure)), where)
    return Encoded(tuple(shape), _DTYPES[dtype], structure, bits, scales)


def _parse_scales(scales: Any, groups: int, where: str) -> tuple[float, ...]:
    """A scale for each group of gates, far from where float32 loses digits or overflows."""
    lowest, highest = _SCALES
    if not isinstance(scales, list) or len(scales) != groups:
        raise FormatError(f"{where}: expected a list of {groups} scales, got {scales!r:.120}")
    for scale in scales:
        if type(scale) not in (int, float) or not lowest <= scale <= highest:
            raise FormatError(f"{where}: expected scales from 2^-100 to 2^100, got {scale!r:.120}")
    return tuple(map(float, scales))


def _parse_aliases(aliases: Mapping[str, Any], where: str) -> dict[str, str]:
    """Further keys of tied tensors; none may point to another alias."""
    for alias, key in aliases.items():
        if not isinstance(key, str) or key in aliases:
            raise FormatError(f"{where}: expected alias {alias!r} to name a stored tensor, got {key!r:.120}")
    return dict(aliases)
