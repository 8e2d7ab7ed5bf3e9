"""A checkpoint, recognised by its content and opened: its tensors by name, whatever the file is."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import BinaryIO
from zipfile import ZipFile

from torch import Tensor

from jobs.catalogue import EXPORTED_PROGRAM
from jobs.problems import ProblemError
from worker.graphs.schema import Graph
from worker.sandbox.archives import Member, checked_zip, tar_members, zip_members
from worker.sandbox.exported.archive import is_program
from worker.sandbox.exported.program import read_program
from worker.sandbox.formats import ACCEPTED, OTHER_TAR, START_BYTES, format_of
from worker.sandbox.safetensors_file import tensors_of_file
from worker.sandbox.shards import holds_index, sharded_tensors
from worker.sandbox.state import is_lightning, named_tensors
from worker.sandbox.tensor_checks import check_names
from worker.sandbox.torch_file import load_pickle, load_zip

INVALID = "checkpoint_invalid"


@dataclass(frozen=True)
class Weights:
    """The tensors of a file, checked in form, not yet in number.

    Attributes:
        format: How they were stored.
        tensors: By key.
        notes: On where they were.
        lightning: Whether Lightning wrote the file.
        graph: That the file carries besides, if any.
        constants: Keys of tensors that belong to the graph alone, and are in no state_dict.
    """

    format: str
    tensors: dict[str, Tensor]
    notes: list[str]
    lightning: bool = False
    graph: Graph | None = None
    constants: frozenset[str] = frozenset()


def open_weights(source: BinaryIO, size: int, filename: str, limit: int) -> Weights:
    """Recognise a file and open it.

    Args:
        source: The upload.
        size: Its bytes.
        filename: Its ending is a hint where the content says nothing.
        limit: Bytes that an archive of shards may expand to.

    Raises:
        ProblemError: The file is refused.
    """
    source.seek(0)
    found = format_of(source.read(START_BYTES), "checkpoint", filename)
    if found == "safetensors":
        state = tensors_of_file(source, size)
        check_names(state)
        return Weights(found, state, [])
    if found == "tar":
        return _of_tar(source, limit)
    if found == "zip":
        return _of_zip(source, size, limit)
    return _of_loaded(load_pickle(source, size))


def _of_zip(source: BinaryIO, size: int, limit: int) -> Weights:
    archive = checked_zip(source, size, INVALID)
    if is_program(archive.namelist()):
        return _of_program(archive)
    members = zip_members(archive)
    if holds_index(members):
        return _of_shards(members, limit)
    return _of_loaded(load_zip(source, size))


def _of_tar(source: BinaryIO, limit: int) -> Weights:
    source.seek(0)
    members = tar_members(source, limit, INVALID)
    if not holds_index(members):
        raise ProblemError("unsupported_format", f"expected {ACCEPTED['checkpoint']}, got {OTHER_TAR}")
    return _of_shards(members, limit)


def _of_shards(members: Sequence[Member], limit: int) -> Weights:
    return Weights("safetensors_shards", *sharded_tensors(members, limit))


def _of_loaded(loaded: object) -> Weights:
    """The tensors in what torch has loaded."""
    return Weights("pytorch", *named_tensors(loaded), lightning=is_lightning(loaded))


def _of_program(archive: ZipFile) -> Weights:
    """The tensors of an exported program, with its graph."""
    program = read_program(archive)
    note = f"carries its graph of {len(program.graph.nodes)} operators"
    tensors = program.state | program.constants
    return Weights(EXPORTED_PROGRAM, tensors, [note], graph=program.graph, constants=frozenset(program.constants))
