"""Reading an upload: one throw-away child a file, its answer checked before anything believes it."""

import json
import logging
import os
import signal
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal

from jobs.catalogue import EXPORTED_PROGRAM
from jobs.problems import ProblemError
from worker.graphs.schema import Graph
from worker.graphs.stored import graph_in
from worker.sandbox.answer import MAX_ANSWER_BYTES, Answer, DatasetSummary, parse
from worker.sandbox.formats import START_BYTES, format_of
from worker.sandbox.limits import Budget, Limits
from worker.sandbox.process import Ending, run_child
from worker.sandbox.tensor_file import read_header, read_metadata

Purpose = Literal["checkpoint", "dataset"]
INVALID = {"checkpoint": "checkpoint_invalid", "dataset": "dataset_invalid"}
CHILD = ("-m", "worker.sandbox.child")
SAMPLES = ({"x", "y"}, {"pixels", "sizes", "y"})
"""What there is of each split: images of several sizes have no x."""
OUTPUT_NAME = "checked.safetensors"

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Inspection:
    """What an upload holds.

    Attributes:
        format: How it was stored: "safetensors", "pytorch", "exported_program", "npz", "idx", "cifar_python",
            "cifar_binary", "images".
        summary: {parameters, layers, key_prefix, notes} of a checkpoint; {splits, shape, classes, dtype, class_names,
            notes} of a data set. `parameters` counts floating tensors, tied ones once, without the running statistics
            of batch norm; `shape` has None for sizes that differ.
        layers: For a checkpoint, the fields of `adtn.plan.Layer` of each, with `dtype` and `parameters`.
        aliases: For each key that shares another key's tensor, that other key.
        tensors: The checked safetensors file: a checkpoint with its own dtypes and its keys after the prefix, one copy
            of tied tensors; a data set as train_x, train_y, test_x, test_y (x uint8 or float32, y int64), perhaps val_x
            and val_y, or as `worker.sandbox.image_folder` says where images differ in size.
    """

    format: str
    summary: dict[str, Any]
    layers: list[dict[str, Any]]
    aliases: dict[str, str]
    tensors: Path


def read_upload(
    source: Path, purpose: Purpose, filename: str, out: Path, limits: Limits, child: Sequence[str] = CHILD
) -> Inspection:
    """Read an untrusted file in a throw-away child process and check it.

    Args:
        source: The file as uploaded.
        purpose: What it is meant to be.
        filename: The user's name for it; only its ending is looked at, as a hint.
        out: Folder that receives `checked.safetensors`; on any error nothing is left in it.
        limits: What the child may use.
        child: What the interpreter runs: another one only in tests of the confinement itself.

    Raises:
        ProblemError: The file is refused, or reading it takes more than `limits` allow.
    """
    size = source.stat().st_size
    if size == 0:
        raise ProblemError("empty_file", "expected a file with bytes in it, got 0 bytes")
    budget = limits.budget(purpose, size)
    tensors = out / OUTPUT_NAME
    with source.open("rb") as upload:
        format_of(upload.read(START_BYTES), purpose, filename)  # a wrong kind of file needs no child to be refused
    with source.open("rb") as upload, tensors.open("xb+") as output:
        try:
            answer = _ask_child(upload, purpose, filename, output, budget, child)
        except BaseException:
            tensors.unlink()
            raise
    return Inspection(
        format=answer.format,
        summary=answer.summary.model_dump(),
        layers=[layer.model_dump() for layer in answer.layers],
        aliases=dict(answer.aliases),
        tensors=tensors,
    )


def _ask_child(
    upload: BinaryIO, purpose: Purpose, filename: str, output: BinaryIO, budget: Budget, child: Sequence[str]
) -> Answer:
    """Start the child on open files, so that it needs no path, and check what it says and wrote."""
    with tempfile.TemporaryFile() as reply:
        files = {"source": upload.fileno(), "output": output.fileno(), "reply": reply.fileno()}
        request = {
            "purpose": purpose,
            "filename": filename[-200:],
            "files": files,
            "budget": asdict(budget),
            "parent": os.getpid(),
        }
        ending = run_child([*child, json.dumps(request)], list(files.values()), budget.wall_s)
        if ending.returncode != 0 or ending.timed_out:
            raise _problem_of(ending, purpose, budget)
        try:
            reply.seek(0)
            answer = parse(reply.read(MAX_ANSWER_BYTES))
            size = output.seek(0, os.SEEK_END)
            names = {entry.name for entry in read_header(output, size, INVALID[purpose])}
            _require_consistent(answer, purpose, names)
            _require_graph(answer, graph_in(read_metadata(output, size, INVALID[purpose])), names)
        except ValueError as error:
            log.error("the sandbox wrote what does not hold together: %s; its log: %s", error, ending.log)
            raise ProblemError(INVALID[purpose], "the file cannot be read") from error
    return answer


def _require_consistent(answer: Answer, purpose: Purpose, names: set[str]) -> None:
    """Refuse an answer of the other kind, or one that speaks of other tensors than the file holds.

    Raises:
        ValueError: It does.
    """
    if isinstance(answer.summary, DatasetSummary) != (purpose == "dataset"):
        raise ValueError(f"the answer is not that of a {purpose}")
    if isinstance(answer.summary, DatasetSummary):
        splits = answer.summary.splits.keys()
        held = [{f"{split}_{part}" for split in splits for part in parts} for parts in SAMPLES]
        if not {"train", "test"} <= splits or names not in held:
            raise ValueError("the file does not hold the arrays of a data set")
    strays = {layer.key for layer in answer.layers} - names - answer.aliases.keys()
    if strays or not set(answer.aliases.values()) <= names or answer.aliases.keys() & names:
        raise ValueError("the answer names tensors that are not in the file")


def _require_graph(answer: Answer, graph: Graph | None, names: set[str]) -> None:
    """Refuse a graph that should not be there, is missing, or holds other tensors than the file.

    Raises:
        ValueError: It does.
    """
    if (graph is not None) != (answer.format == EXPORTED_PROGRAM):
        raise ValueError(f"a file of the format {answer.format} is the wrong place for a graph, or lacks one")
    if graph is not None and {held.key for held in graph.held} != names | answer.aliases.keys():
        raise ValueError("the graph holds other tensors than the file")


def _problem_of(ending: Ending, purpose: Purpose, budget: Budget) -> ProblemError:
    """Why a child died, as the user may read it."""
    log.warning("sandbox ended with %d (timed out: %s): %s", ending.returncode, ending.timed_out, ending.log)
    if ending.timed_out:
        return ProblemError("resource_limit", f"reading the file took more than {budget.wall_s:.0f} s")
    if ending.returncode == -signal.SIGXCPU:
        return ProblemError("resource_limit", f"reading the file took more than {budget.cpu_s} s of processor time")
    # SIGKILL comes from the kernel's memory killer; SIGABRT from an allocation that failed inside a library.
    if ending.returncode == -signal.SIGKILL or (ending.returncode == -signal.SIGABRT and "alloc" in ending.log):
        return ProblemError("resource_limit", "reading the file needs more memory than the worker allows")
    if ending.returncode < 0:
        return ProblemError(INVALID[purpose], "the file cannot be read: it crashes its reader")
    return ProblemError("internal_error", "the file could not be inspected: its reader did not start")
