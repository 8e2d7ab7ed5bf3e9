"""What every stored result carries: the command, the commit, the machine, the seeds."""

import json
import os
import platform
import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import torch

RESULTS = Path(__file__).parent / "results"
WRITTEN = ("bench/results", "docs", "README.md")
"""Where benchmarks leave results."""


def provenance(command: str, seeds: list[int]) -> dict[str, object]:
    """Where and from what a result comes.

    Args:
        command: What reproduces it, the same on every machine.
        seeds: Of the runs.
    """
    return {
        "command": command,
        "commit": commit(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": {
            "processor": processor(),
            "cores": os.cpu_count(),
            "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
            "python": platform.python_version(),
            "torch": torch.__version__,
        },
        "seeds": seeds,
    }


def commit() -> str:
    """The commit of the working tree, marked where the tree differs from it in more than what benchmarks write."""
    written = [f":(top,exclude){path}" for path in WRITTEN]
    changed = _git("status", "--porcelain", "--", ":(top)", *written)
    return _git("rev-parse", "--short=12", "HEAD") + ("-dirty" if changed else "")


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], capture_output=True, text=True, check=True).stdout.strip()


def described(machine: Mapping[str, object]) -> str:
    """A machine of a provenance in words: its cores and, if it has one, its GPU."""
    gpu = machine["gpu"]
    return f"{machine['cores']} cores of {machine['processor']}" + ("" if gpu is None else f" with {gpu}")


def processor() -> str:
    """The processor's name."""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor()


def store(name: str, result: dict[str, object]) -> Path:
    """Write a result to `bench/results/NAME.json`."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps(result, indent=2) + "\n")
    return path
