"""The header of a compressed checkpoint: what is encoded and how, as one JSON string in the file's metadata."""

import json
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from adtn.balancing import scale_groups
from adtn.errors import FormatError, ShapeError, StructureError
from adtn.quantising import check_bits
from adtn.start import WEIGHT_DTYPES
from adtn.structure import MOST_PADDED, AnyStructure, is_too_large, structure_from_json

FORMAT_VERSION = 3
"""The newest that is read. What is written is the oldest that can hold it."""
METADATA_KEY = "adtn"
_FIELDS = {"version", "encoded", "aliases"}
_ENTRY = {"shape", "dtype", "structure"}
_INTEGERS = {"bits", "scales"}  # since version 2
_PARTS = {"parts"}  # since version 3
_SCALES = (2.0**-100, 2.0**100)
_DTYPES = {str(dtype).removeprefix("torch."): dtype for dtype in WEIGHT_DTYPES}


@dataclass(frozen=True)
class Part:
    """One of several weights that an ADTN holds.

    Args:
        key: In the dense state_dict.
        shape: Of the weight.
    """

    key: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Encoded:
    """What gates decode to: a weight, or several that are flattened and joined.

    Args:
        shape: Of the weight; (entries,) of several.
        dtype: Of the weight.
        structure: Of the tensor network, or the sum of several.
        bits: Of each integer that is stored for the gates, or None: they are floats.
        scales: With bits, one a group of gates: see `adtn.balancing.scale_groups`. Else none.
        parts: The weights in their order, where there are several. Else none.
    """

    shape: tuple[int, ...]
    dtype: torch.dtype
    structure: AnyStructure
    bits: int | None = None
    scales: tuple[float, ...] = ()
    parts: tuple[Part, ...] = ()

    def weights(self, key: str) -> tuple[Part, ...]:
        """The weights held, one or several, where the entry stands under `key`."""
        return self.parts or (Part(key, self.shape),)

    def to_json(self) -> dict[str, Any]:
        """As JSON-compatible data."""
        data: dict[str, Any] = {
            "shape": list(self.shape),
            "dtype": str(self.dtype).removeprefix("torch."),
            "structure": self.structure.to_json(),
        }
        if self.bits is not None:
            data |= {"bits": self.bits, "scales": list(self.scales)}
        if self.parts:
            data["parts"] = [{"key": part.key, "shape": list(part.shape)} for part in self.parts]
        return data

    @property
    def version(self) -> int:
        """The oldest format version that can hold it."""
        return 3 if self.parts else 2 if self.bits is not None else 1


@dataclass(frozen=True)
class Header:
    """What a file says about itself.

    Args:
        encoded: Encoded weights by their key in the dense state_dict; several that are held together by the first's.
        aliases: Further keys of tied tensors, encoded or dense, to the key that is stored.
    """

    encoded: Mapping[str, Encoded]
    aliases: Mapping[str, str]

    def to_text(self) -> str:
        """The JSON string that `parse_header` reads."""
        version = max((item.version for item in self.encoded.values()), default=1)
        encoded = {key: item.to_json() for key, item in self.encoded.items()}
        data = {"version": version, "encoded": encoded, "aliases": dict(self.aliases)}
        return json.dumps(data, separators=(",", ":"))

    def weights(self) -> dict[str, tuple[int, ...]]:
        """The shape of every encoded weight, by its key in the dense state_dict, without aliases."""
        return {part.key: part.shape for key, item in self.encoded.items() for part in item.weights(key)}


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
        data = json.loads(metadata[METADATA_KEY], object_pairs_hook=_object)
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
    encoded = {key: _parse_encoded(key, item, f"{where}: {key}", version) for key, item in data["encoded"].items()}
    _check_keys(encoded, where)
    return Header(encoded, _parse_aliases(data["aliases"], where))


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of JSON without a name that stands twice: readers would differ in which value they take."""
    names = Counter(name for name, _ in pairs)
    if len(names) < len(pairs):
        ((name, _),) = names.most_common(1)
        raise ValueError(f"expected each name of an object once, got {name!r:.120} twice")
    return dict(pairs)


def _parse_encoded(key: str, item: Any, where: str, version: int) -> Encoded:
    """One entry of the header."""
    fields = [_ENTRY]
    if version >= 2:
        fields.append(_ENTRY | _INTEGERS)
    if version >= 3:
        fields.extend([names | _PARTS for names in fields])
    if not isinstance(item, dict) or set(item) not in fields:
        more = "" if version == 1 else ", with bits also scales"
        raise FormatError(f"{where}: expected shape, dtype and structure{more}, got {item!r:.120}")
    shape, dtype = _parse_shape(item["shape"], where), item["dtype"]
    if not isinstance(dtype, str) or dtype not in _DTYPES:
        raise FormatError(f"{where}: expected a dtype of {', '.join(_DTYPES)}, got {dtype!r:.120}")
    try:
        structure = structure_from_json(item["structure"])
        bits = check_bits(item["bits"]) if "bits" in item else None
    except (StructureError, ShapeError) as error:
        raise FormatError(f"{where}: {error}") from None
    entries = math.prod(shape)
    if entries > structure.size:
        raise FormatError(
            f"{where}: shape {list(shape)} has {entries} entries, but the structure holds {structure.size}"
        )
    if structure.size > MOST_PADDED * entries:
        raise FormatError(
            f"{where}: expected a structure of at most {MOST_PADDED} times the {entries} entries of the weight, "
            f"got {structure.size}"
        )
    scales = () if bits is None else _parse_scales(item["scales"], len(scale_groups(structure)), where)
    parts = _parse_parts(item["parts"], key, shape, where) if "parts" in item else ()
    return Encoded(shape, _DTYPES[dtype], structure, bits, scales, parts)


def _parse_shape(shape: Any, where: str) -> tuple[int, ...]:
    """A shape without zeros, of as many entries as a structure can have."""
    if not isinstance(shape, list) or not all(type(n) is int and n > 0 for n in shape):
        raise FormatError(f"{where}: expected a shape of positive integers, got {shape!r:.120}")
    if is_too_large(shape):
        raise FormatError(f"{where}: expected a shape of at most 2^48 entries, got {shape!r:.120}")
    return tuple(shape)


def _parse_parts(parts: Any, key: str, shape: tuple[int, ...], where: str) -> tuple[Part, ...]:
    """Weights that fill a shape of one dimension, the first of them under the key of the entry."""
    if not isinstance(parts, list) or not parts:
        raise FormatError(f"{where}: expected a list of parts, got {parts!r:.120}")
    for part in parts:
        if not isinstance(part, dict) or set(part) != {"key", "shape"} or not isinstance(part["key"], str):
            raise FormatError(f"{where}: expected parts of a key and a shape, got {part!r:.120}")
    found = tuple(Part(part["key"], _parse_shape(part["shape"], f"{where}: {part['key']}")) for part in parts)
    entries = sum(math.prod(part.shape) for part in found)
    if shape != (entries,) or found[0].key != key:
        raise FormatError(
            f"{where}: expected parts that fill the shape {list(shape)}, the first of them {key!r}, "
            f"got {entries} entries, the first {found[0].key!r:.120}"
        )
    return found


def _check_keys(encoded: Mapping[str, Encoded], where: str) -> None:
    """Refuse a weight that stands in two places."""
    keys = Counter(part.key for key, item in encoded.items() for part in item.weights(key))
    twice = [key for key, count in keys.items() if count > 1]
    if twice:
        raise FormatError(f"{where}: expected each encoded weight once, got {twice[0]!r:.120} twice")


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
