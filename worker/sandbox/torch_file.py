"""Untrusted .pt and .pth files: torch.load with weights_only=True and nothing else, after the container is checked."""

import pickle
import re
from collections.abc import Sequence
from typing import Any, BinaryIO

import torch
from torch import Tensor

from jobs.problems import ProblemError
from worker.sandbox.archives import checked_zip, require_stored
from worker.sandbox.tensor_checks import storage_sizes
from worker.sandbox.tensor_file import quoted

SAVE_WEIGHTS = (
    "it is never run here. Save the weights alone, on a machine where you trust the file: "
    "torch.save(model.state_dict(), 'weights.pt')"
)
CLAIMS_MORE = "the tensors claim more bytes than the file holds for them"
GLOBAL = re.compile(r"GLOBAL ([\w.]+)")


def load_zip(source: BinaryIO, size: int) -> object:
    """Load what torch.save wrote.

    Args:
        source: The upload.
        size: Its bytes.

    Raises:
        ProblemError: `checkpoint_contains_code`, `truncated_file`, `unsupported_format`, `checkpoint_invalid`.
    """
    archive = checked_zip(source, size, "checkpoint_invalid")
    _require_weights(archive.namelist())
    # torch itself would expand a deflated archive a thousandfold.
    require_stored(archive, "checkpoint_invalid")
    return load_pickle(source, size)


def load_pickle(source: BinaryIO, size: int) -> object:
    """Load tensors and plain containers; also what torch.save wrote before version 1.6, which is no zip.

    Args:
        source: The upload.
        size: Its bytes.

    Raises:
        ProblemError: As `load_zip`.
    """
    source.seek(0)
    try:
        loaded: object = torch.load(source, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise _refused_pickle(str(error)) from error
    except EOFError as error:
        raise ProblemError("truncated_file", "the checkpoint ends too early") from error
    except RuntimeError as error:
        raise _sorted_out(error) from error
    if sum(storage_sizes(tensors_in(loaded))) > size:
        raise ProblemError("checkpoint_invalid", CLAIMS_MORE)
    return loaded


def _require_weights(names: Sequence[str]) -> None:
    """Refuse archives that are programs, and those that torch.save did not write."""
    if any(name.endswith("/constants.pkl") or "/code/" in name for name in names):
        raise ProblemError(
            "checkpoint_contains_code",
            f"the file is a TorchScript program; {SAVE_WEIGHTS.replace('model', 'torch.jit.load(path)')}",
        )
    if any(name.endswith(".py") or "/.data/extern_modules" in name for name in names):
        raise ProblemError("checkpoint_contains_code", f"the file is a torch.package with source code; {SAVE_WEIGHTS}")
    if not any(name == "data.pkl" or name.endswith("/data.pkl") for name in names):
        raise ProblemError(
            "unsupported_format", f"expected a zip written by torch.save, got one with {_list_of(names)}"
        )


def _sorted_out(error: RuntimeError) -> Exception:
    """What an error of torch's reader means; one of its allocator stays as it is."""
    text = str(error)
    if "resize" in text or "record size" in text or "torage size" in text:
        return ProblemError("checkpoint_invalid", CLAIMS_MORE)
    if "PytorchStreamReader" in text or "unexpected EOF" in text or "corrupted" in text:
        return ProblemError("truncated_file", "the checkpoint is cut short or damaged")
    return error


def _refused_pickle(text: str) -> ProblemError:
    """The problem for a pickle that asks for more than tensors and plain containers."""
    found = GLOBAL.search(text)
    if found:
        return ProblemError(
            "checkpoint_contains_code", f"the file holds pickled code ({quoted(found[1])}), and {SAVE_WEIGHTS}"
        )
    if "Unsupported" in text or "not allowed" in text or "not supported" in text:
        return ProblemError("checkpoint_contains_code", f"the file holds pickled code, and {SAVE_WEIGHTS}")
    return ProblemError("truncated_file", "the checkpoint's pickle is damaged or none that torch.save writes")


def tensors_in(loaded: object) -> list[Tensor]:
    """All tensors in nested containers that have memory of their own."""
    found: list[Tensor] = []
    seen: set[int] = set()
    waiting: list[Any] = [loaded]
    while waiting:
        value = waiting.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, Tensor):
            if value.layout is torch.strided and value.device.type == "cpu":
                found.append(value)
        elif isinstance(value, dict):
            waiting.extend(value.values())
        elif isinstance(value, list | tuple | set):
            waiting.extend(value)
    return found


def _list_of(names: Sequence[str]) -> str:
    return ", ".join(quoted(name) for name in names[:5]) or "nothing in it"
