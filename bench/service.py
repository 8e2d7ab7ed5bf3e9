"""The running service, as the benchmarks that go through it use it."""

import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from safetensors import safe_open

from adtn_client import Client


@contextmanager
def running_service(data_dir: Path) -> Iterator[str]:
    """The embedded stack in a folder of its own; yields its URL."""
    adtn = Path(sys.executable).with_name("adtn")
    command = [str(adtn), "up", "--port", "0", "--data-dir", str(data_dir)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield next(line.split()[1] for line in process.stdout if line.startswith("ready "))
        finally:
            process.terminate()
            process.wait(timeout=90)


def upload(client: Client, path: Path, purpose: Literal["checkpoint", "dataset"]) -> str:
    """Upload a file and wait for its inspection; its id."""
    file = client.files.wait(client.files.upload(path, purpose).id)
    if file.status != "ready":
        raise SystemExit(f"{path.name} was rejected: {file.error}")
    return file.id


def stored_numbers(path: Path) -> int:
    """Numbers of all gates in a file whose gates are floats."""
    with safe_open(path, "pt") as file:
        return sum(file.get_slice(key).get_shape()[0] for key in file.keys() if key.endswith(".gates"))  # noqa: SIM118


def check_claims(claims: Mapping[str, tuple[float, float]], tolerance: float = 0.0) -> None:
    """Refuse a run whose report is not what the downloaded files say.

    Args:
        claims: What was found and what the report says, by what it is.
        tolerance: By how much they may differ.

    Raises:
        SystemExit: They differ.
    """
    for claim, (got, reported) in claims.items():
        if not abs(got - reported) <= tolerance:
            raise SystemExit(f"{claim}: the report says {reported}, got {got}")
