"""Untrusted .pt and .pth files: torch.load with weights_only=True and nothing else, after the container is checked."""

import pickle
import re
from collections import Counter
from typing import Any, BinaryIO

import torch
from torch import Tensor

from jobs.problems import ProblemError
from worker.sandbox.archives import checked_zip
from worker.sandbox.tensor_checks import storage_sizes
from worker.sandbox.tensor_file import quoted

SAVE_WEIGHTS = (
    "it is never run here. Save the weights alone, on a machine where you trust the file: "
    "torch.save(model.state_dict(), 'weights.pt')"
)
GLOBAL = re.compile(r"GLOBAL ([\w.]+)")


def load_zip(source: BinaryIO, size: int) -> object:
    """Load what torch.save wrote.

    Args:
        source: The upload.
        size: Its bytes.

    Raises:
        ProblemError: `checkpoint_contains_code`, `truncated_file`, `unsupported_format`, `checkpoint_invalid`.
    """
    # Stored members only: torch itself would expand a deflated archive a thousandfold.
    archive = checked_zip(source, size, "checkpoint_invalid", compressed=False)
    records = {info.filename: info.file_size for info in archive.infolist()}
    _require_weights(records)
    loaded = _load(source)
    # A pickle may claim more numbers than its record has; torch then enlarges the memory block without a word.
    blocks = Counter(storage_sizes(_tensors_in(loaded)))
    if blocks - Counter(size for name, size in records.items() if "/data/" in name):
        raise ProblemError("checkpoint_invalid", "tensors claim more bytes than the file holds for them")
    return loaded


def load_legacy(source: BinaryIO, size: int) -> object:
    """Load what torch.save wrote before version 1.6: pickles and raw bytes without a container.

    Args:
        source: The upload.
        size: Its bytes.

    Raises:
        ProblemError: As `load_zip`.
    """
    loaded = _load(source)
    if sum(storage_sizes(_tensors_in(loaded))) > size:
        raise ProblemError("checkpoint_invalid", "tensors claim more bytes than the file has")
    return loaded


def _require_weights(names: dict[str, int]) -> None:
    """Refuse archives that are programs, and those that torch.save did not write."""
    if any(name.endswith("/constants.pkl") or "/code/" in name for name in names):
        raise ProblemError(
            "checkpoint_contains_code",
            f"the file is a TorchScript program; {SAVE_WEIGHTS.replace('model', 'torch.jit.load(path)')}",
        )
    if any(name.endswith(".py") or "/.data/extern_modules" in name for name in names):
        raise ProblemError("checkpoint_contains_code", f"the file is a torch.package with source code; {SAVE_WEIGHTS}")
    if any(name.endswith(("archive_format", "/models/model.json")) for name in names):
        raise ProblemError(
            "unsupported_format",
            "expected weights, got an exported program (.pt2): save its state_dict with torch.save",
        )
    if not any(name == "data.pkl" or name.endswith("/data.pkl") for name in names):
        raise ProblemError(
            "unsupported_format", f"expected a zip written by torch.save, got one with {_list_of(list(names))}"
        )


def _load(source: BinaryIO) -> object:
    """torch.load of tensors and plain containers, its errors sorted."""
    source.seek(0)
    try:
        return torch.load(source, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise _refused_pickle(str(error)) from error
    except EOFError as error:
        raise ProblemError("truncated_file", "the checkpoint ends too early") from error
    except RuntimeError as error:
        text = str(error)
        if "PytorchStreamReader" in text or "unexpected EOF" in text or "corrupted" in text:
            raise ProblemError("truncated_file", "the checkpoint is cut short or damaged") from error
        raise


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


def _tensors_in(loaded: object) -> dict[str, Tensor]:
    """All tensors with memory of their own in nested containers, by a running number."""
    found: dict[str, Tensor] = {}
    seen: set[int] = set()
    waiting: list[Any] = [loaded]
    while waiting:
        value = waiting.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, Tensor):
            if value.layout is torch.strided and value.device.type == "cpu":
                found[str(len(found))] = value
        elif isinstance(value, dict):
            waiting.extend(value.values())
        elif isinstance(value, list | tuple | set):
            waiting.extend(value)
    return found


def _list_of(names: list[str]) -> str:
    return ", ".join(quoted(name) for name in names[:5]) or "nothing in it"
