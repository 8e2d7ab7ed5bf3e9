"""Sharded safetensors in a zip or tar: an index says which of the files beside it holds each tensor."""

import mmap
import shutil
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import BinaryIO, cast

from torch import Tensor

from jobs.problems import Fault, ProblemError
from worker.sandbox.archives import Member, capped
from worker.sandbox.safetensors_file import tensors_in_memory
from worker.sandbox.tensor_file import MAX_TENSORS, json_object, quoted, read_header

INDEX = ".safetensors.index.json"
SHARD = ".safetensors"
MAX_INDEX_BYTES = 16 * 2**20
INVALID = "checkpoint_invalid"
LISTED = 20


def holds_index(members: Sequence[Member]) -> bool:
    """Whether an archive has an index of shards."""
    return any(member.name.endswith(INDEX) for member in members)


def sharded_tensors(members: Sequence[Member], limit: int) -> tuple[dict[str, Tensor], list[str]]:
    """The tensors of all shards, in the order of the index.

    Args:
        members: Of the archive.
        limit: Bytes that the shards may take together.

    Returns:
        Tensors by key, and notes on what was read and what was left out.

    Raises:
        ProblemError: `checkpoint_invalid` if index and shards do not agree, `truncated_file`, or `resource_limit`.
    """
    index = _index(members)
    folder = PurePosixPath(index.name).parent
    places = _places(index)
    shards = _shards(members, folder, places)
    if sum(shard.bytes for shard in shards.values()) > limit:
        raise ProblemError("resource_limit", f"the shards expand to more than {limit} bytes")
    held = {name: _tensors(shard) for name, shard in shards.items()}
    _require_agreement(places, held)
    used = {index.name, *(shard.name for shard in shards.values())}
    return {key: held[name][key] for key, name in places.items()}, [_note(members, used, len(shards), index)]


def _index(members: Sequence[Member]) -> Member:
    """The one index of an archive, whose members have names that stay in it and differ."""
    seen: set[PurePosixPath] = set()
    for member in members:
        if member.path is None:
            raise ProblemError(INVALID, f"expected names that stay in the archive, got {quoted(member.name)}")
        if member.path in seen:
            raise ProblemError(INVALID, f"{quoted(member.name)} is in the archive more than once")
        seen.add(member.path)
    found = [member for member in members if member.name.endswith(INDEX)]
    if len(found) > 1:
        listed = ", ".join(quoted(member.name) for member in found[:LISTED])
        raise ProblemError("checkpoint_ambiguous", f"expected one index of shards, got {len(found)}: {listed}")
    return found[0]


def _places(index: Member) -> dict[str, str]:
    """For each tensor the name of its shard."""
    what = f"the index {quoted(index.name)}"
    if index.bytes > MAX_INDEX_BYTES:
        raise ProblemError(INVALID, f"expected {what} to have at most {MAX_INDEX_BYTES} bytes, got {index.bytes}")
    with index.open() as stream:
        content = json_object(stream.read(MAX_INDEX_BYTES), what, INVALID)
    places = content.get("weight_map")
    if not isinstance(places, dict) or not 0 < len(places) <= MAX_TENSORS:
        raise ProblemError(INVALID, f"expected {what} to have a weight_map with 1 to {MAX_TENSORS} tensors")
    for key, name in places.items():
        if not isinstance(name, str) or PurePosixPath(name).name != name or not name.endswith(SHARD):
            detail = f"expected the name of a {SHARD} file beside the index, got {quoted(name)}"
            raise ProblemError(INVALID, f"{what}: {quoted(key)}: {detail}", [Fault(quoted(key), detail, INVALID)])
    return places


def _shards(members: Sequence[Member], folder: PurePosixPath, places: Mapping[str, str]) -> dict[str, Member]:
    """The shards that the index names, by name."""
    beside = {member.path: member for member in members}
    wanted = list(dict.fromkeys(places.values()))
    missing = [name for name in wanted if folder / name not in beside]
    if missing:
        listed = ", ".join(map(quoted, missing[:LISTED]))
        raise ProblemError(INVALID, f"expected {len(wanted)} shards as the index says; the archive lacks {listed}")
    return {name: beside[folder / name] for name in wanted}


def _tensors(shard: Member) -> dict[str, Tensor]:
    """The tensors of a shard, which is expanded into memory."""
    if shard.bytes == 0:
        raise ProblemError("truncated_file", f"the shard {quoted(shard.name)} is empty")
    memory = mmap.mmap(-1, shard.bytes)
    with capped(shard.open(), shard.bytes, quoted(shard.name)) as stream:
        shutil.copyfileobj(stream, memory)
    try:
        entries = read_header(cast(BinaryIO, memory), shard.bytes, INVALID)
    except ProblemError as problem:
        raise ProblemError(problem.code, f"shard {quoted(shard.name)}: {problem.detail}") from problem
    return tensors_in_memory(memory, entries)


def _require_agreement(places: Mapping[str, str], held: Mapping[str, Mapping[str, Tensor]]) -> None:
    """Refuse shards that hold other tensors than the index says."""
    faults = []
    for key, name in places.items():
        if key not in held[name]:
            others = [other for other, tensors in held.items() if key in tensors]
            where = f"it is in {quoted(others[0])}" if others else "it is in none"
            faults.append(Fault(quoted(key), f"expected it in {quoted(name)} as the index says; {where}", INVALID))
    for name, tensors in held.items():
        for key in tensors:
            if places.get(key) != name:
                said = f"the index says {quoted(places[key])}" if key in places else "the index does not name it"
                faults.append(Fault(quoted(key), f"{quoted(name)} holds it, but {said}", INVALID))
    if faults:
        raise ProblemError(INVALID, f"tensor {faults[0].pointer}: {faults[0].detail}", faults[:LISTED])


def _note(members: Sequence[Member], used: set[str], shards: int, index: Member) -> str:
    others = [quoted(member.name) for member in members if member.name not in used]
    left_out = f"; left out: {', '.join(others[:LISTED])}" if others else ""
    return f"weights taken from {shards} shards as {quoted(index.name)} says{left_out}"
