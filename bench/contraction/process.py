"""A fresh process for each row: its peak memory is its own, and what is too large or too slow ends with it."""

import multiprocessing
import resource
import signal
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch

from bench.contraction.check import WrongResult
from bench.contraction.memory import available
from bench.contraction.row import Task, describe, measure

LIMIT_S = 150
"""A row that takes longer is given up."""
_RESERVE = 2**30


class RowFailed(Exception):
    """A method is wrong, or failed for another reason than time and memory."""


def run(task: Task, stored: Path) -> dict[str, Any]:
    """Measure a task in a process of its own.

    Returns:
        The row; with "infeasible", the reason, in the place of its figures where the task needs too much memory or
        time, or a package that is not installed.

    Raises:
        RowFailed: The result is wrong, or the process failed.
    """
    # The server has everything imported, so that a new process costs a fork.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["bench.contraction.row", "quimb.tensor"])
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=_answer, args=(there, task, stored))
    process.start()
    there.close()
    try:
        if not here.poll(LIMIT_S):
            return {**describe(task), "infeasible": f"no result within {LIMIT_S} s"}
        answer: dict[str, Any] = here.recv()
    except EOFError:
        process.join()
        if process.exitcode == -signal.SIGKILL:
            return {**describe(task), "infeasible": "ended by the system for want of memory"}
        raise RowFailed(f"{task}: the process ended with {process.exitcode}") from None
    finally:
        process.kill()
        process.join()
    if "wrong" in answer:
        raise RowFailed(f"{task}: {answer['wrong']}")
    return answer


def _answer(connection: Connection, task: Task, stored: Path) -> None:
    """Measure, and send the row or why there is none."""
    memory = _limit_memory(task)
    try:
        answer = measure(task, stored)
    except WrongResult as error:
        answer = {"wrong": str(error)}
    except ModuleNotFoundError as error:
        answer = {**describe(task), "infeasible": f"{error.name} is not installed"}
    except (MemoryError, RuntimeError) as error:
        if not _is_memory(error):
            raise
        answer = {**describe(task), "infeasible": f"needs more than {memory / 2**30:.0f} GiB"}
    connection.send(answer)


def _limit_memory(task: Task) -> int:
    """Bound what this process can have, so that torch is refused memory before the system runs out of it."""
    if task.device == "cuda":
        return int(torch.cuda.get_device_properties(0).total_memory)
    limit = available() - _RESERVE
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    return limit


def _is_memory(error: Exception) -> bool:
    """Whether the error says that there was not enough memory; on the CPU, torch has no type for it."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in str(error)
