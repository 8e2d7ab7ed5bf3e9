"""The child process that opens one untrusted file. Started by `upload.py`, with one JSON argument."""

import errno
import gzip
import json
import os
import re
import sys
import tarfile
import traceback
import zipfile
import zlib
from collections.abc import Callable, Mapping
from importlib import import_module
from types import ModuleType
from typing import Any, BinaryIO

from jobs.problems import ProblemError
from worker.garbage import uncollected
from worker.sandbox.confine import confine, cut_network, library_folders
from worker.sandbox.formats import START_BYTES
from worker.sandbox.limits import Budget
from worker.sandbox.refusal import refusal_of

# What the readers of zip, gzip and tar raise on broken bytes, long after their directory was found to be good.
DAMAGED = (EOFError, zlib.error, gzip.BadGzipFile, zipfile.BadZipFile, tarfile.TarError)

# How an exported program begins: torch writes its tensors first.
PROGRAM_START = re.compile(rb"PK\x03\x04.{26}[^/]{1,200}/data/(weights|constants)/", re.DOTALL)

TRACING = "torch._meta_registrations"
"""A module of torch for the tracing of programs. With what it imports it is two fifths of the time that torch takes.

Programs that `PROGRAM_START` does not match are never tried out: see `worker.sandbox.exported.archive.FIRST`.
"""

Reader = Callable[[BinaryIO, str, BinaryIO, Budget], Mapping[str, Any]]


def main(request: Mapping[str, Any]) -> None:
    """Import the reader, give up what can be given up, read, answer."""
    cut_network()
    budget = Budget(**request["budget"])
    files = request["files"]
    with uncollected():
        reader, invalid = _reader(request["purpose"], os.pread(files["source"], START_BYTES, 0))
    with os.fdopen(files["source"], "rb") as source, os.fdopen(files["output"], "wb") as output:
        confine(budget, library_folders(), request["parent"])
        reply = _answer(reader, source, request["filename"], output, budget, invalid)
    with os.fdopen(files["reply"], "w", encoding="utf-8") as file:
        json.dump(reply, file)


def _reader(purpose: str, start: bytes) -> tuple[Reader, str]:
    """The reader for a purpose and its code for what cannot be read; torch is only imported for checkpoints.

    Args:
        purpose: Of the upload.
        start: Its first bytes.
    """
    if purpose == "checkpoint":
        is_program = PROGRAM_START.match(start) is not None
        if not is_program:
            sys.modules[TRACING] = ModuleType(TRACING)
        from worker.sandbox.checkpoint import read_checkpoint

        if is_program:
            # What tries out a graph sets environment variables when it is imported, which is refused later on.
            os.environ["TORCHINDUCTOR_CACHE_DIR"] = os.getcwd()
            import_module("torch._dynamo")
        return read_checkpoint, "checkpoint_invalid"
    from worker.sandbox.dataset import read_dataset

    return read_dataset, "dataset_invalid"


def _answer(
    reader: Reader, source: BinaryIO, filename: str, output: BinaryIO, budget: Budget, invalid: str
) -> Mapping[str, Any]:
    """The reader's answer or refusal. Whatever else is raised was provoked by the file, so the file is refused."""
    try:
        answer = reader(source, filename, output, budget)
        output.flush()
    except ProblemError as problem:
        return refusal_of(problem)
    except MemoryError:
        return refusal_of(_out_of_memory())
    except DAMAGED as error:
        return refusal_of(ProblemError("truncated_file", f"the file is cut short or damaged ({type(error).__name__})"))
    except OSError as error:
        traceback.print_exc()
        return refusal_of(_problem_of(error, budget, invalid))
    except Exception as error:
        traceback.print_exc()
        if "allocate memory" in str(error):  # how torch says MemoryError
            return refusal_of(_out_of_memory())
        return refusal_of(ProblemError(invalid, f"the file cannot be read ({type(error).__name__})"))
    return {"answer": answer}


def _out_of_memory() -> ProblemError:
    return ProblemError("resource_limit", "reading the file needs more memory than the worker allows")


def _problem_of(error: OSError, budget: Budget, invalid: str) -> ProblemError:
    """What an error of the file system means for the user."""
    if error.errno == errno.EFBIG:
        return ProblemError("resource_limit", f"the file expands to more than {budget.output_bytes} bytes")
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return ProblemError("storage_full", "the worker has no space left to read the file")
    return ProblemError(invalid, f"the file cannot be read ({type(error).__name__})")


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
    os._exit(0)  # all is written; to take torch down in order takes half a second
