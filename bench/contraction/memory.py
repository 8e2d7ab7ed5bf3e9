"""Memory in use: resident on the CPU, allocated on a GPU. For processes that do little else than what is measured."""

from pathlib import Path

import torch

_STATUS = Path("/proc/self/status")


def in_use(device: str) -> int:
    """Bytes in use now."""
    return torch.cuda.memory_allocated() if device == "cuda" else _bytes(_STATUS, "VmRSS")


def forget_peak(device: str) -> None:
    """Let the peak be what is in use now."""
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    else:
        Path("/proc/self/clear_refs").write_text("5")


def peak(device: str) -> int:
    """Most bytes in use since `forget_peak`."""
    return torch.cuda.max_memory_allocated() if device == "cuda" else _bytes(_STATUS, "VmHWM")


def available() -> int:
    """Bytes that a new process can have without swapping."""
    return _bytes(Path("/proc/meminfo"), "MemAvailable")


def _bytes(path: Path, name: str) -> int:
    """From a line such as "VmHWM:   1234 kB"."""
    line = next(line for line in path.read_text().splitlines() if line.startswith(f"{name}:"))
    return int(line.split()[1]) * 1024
