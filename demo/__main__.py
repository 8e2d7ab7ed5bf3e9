"""`python -m demo`: train, upload, compress, download, evaluate elsewhere, compare. Any claim that fails ends it."""

import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from adtn_client import Client, ClientError
from adtn_client.commands.report_view import show_report
from adtn_client.commands.submit import Request, compress_and_wait
from demo.checks import ClaimFailed, accuracy_elsewhere, check_same_weights, check_sizes, claim
from demo.model import DigitsNet, accuracy, train
from demo.stack import running_stack
from jobs.schemas.report import Report
from worker.datasets import Dataset, load

OUT = Path(__file__).parent / "out"
CHECKPOINT = OUT / "digits.safetensors"
TEST_SPLIT = OUT / "test_split.safetensors"
TARGET_PARAMETERS = 1250
SETTINGS: dict[str, Any] = {
    "architecture": "lenet5",
    "compression": {"layers": ["conv2", "fc1", "fc2"], "target": {"parameters": TARGET_PARAMETERS}},
    # The gates' learning rate is below the default, which suits data sets with more than 23 steps an epoch.
    "fine_tune": {"epochs": 60, "batch_size": 64, "learning_rate": 0.005, "gate_learning_rate": 0.005},
    "name": "demo",
}
# Of the test accuracy, and generous: this is to catch what is broken, the benchmarks say how good it is.
LARGEST_DROP = 0.05


def main() -> int:
    """Run the demo; the exit code is 1 if anything is not as claimed."""
    started = time.monotonic()
    # So that lines come in order where stdout and stderr go to the same file.
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    # So small a network is trained no faster by more threads, and far slower where others want the cores.
    torch.set_num_threads(1)
    shutil.rmtree(OUT, ignore_errors=True)
    OUT.mkdir()
    data_dir = Path(tempfile.mkdtemp(prefix="adtn-demo-"))
    try:
        run(data_dir)
    except (ClaimFailed, ClientError) as error:
        print(f"FAILED: {error}\nthe service's logs are in {data_dir / 'logs'}", file=sys.stderr)
        return 1
    shutil.rmtree(data_dir)
    print(f"Everything is as claimed, after {time.monotonic() - started:.0f} s. The files are in {OUT}.")
    return 0


def run(data_dir: Path) -> None:
    """Do the whole job, with the service's data in a folder of its own.

    Raises:
        ClaimFailed: Something is not as claimed.
        ClientError: The service refuses or fails.
    """
    baseline = train_checkpoint(load("digits"))
    print("Starting the service")
    with running_stack(data_dir) as url, Client(url) as client:
        print(f"Compressing conv2, fc1 and fc2 to at most {TARGET_PARAMETERS} parameters at {url}")
        job = compress_and_wait(client, Request(str(CHECKPOINT), "digits", SETTINGS, OUT))
        report = client.jobs.report(job.id)
        show_report(report)
        print("Checking")
        check_report(report, baseline)
    print(f"See for yourself: adtn inspect {OUT / 'model.adtn.safetensors'}")


def train_checkpoint(digits: Dataset) -> float:
    """Train a network, save it and the test split, and return its accuracy."""
    torch.manual_seed(0)
    model = DigitsNet()
    train(model, digits.train_x, digits.train_y, epochs=30)
    save_file(model.state_dict(), CHECKPOINT)
    save_file({"test_x": digits.test_x, "test_y": digits.test_y}, TEST_SPLIT)
    baseline = accuracy(model, digits.test_x, digits.test_y)
    print(f"Trained {CHECKPOINT.name}: {baseline:.2%} of {len(digits.test_y)} test images")
    return baseline


def check_report(report: Report, baseline: float) -> None:
    """Hold the report against the files and against our own measurements.

    Raises:
        ClaimFailed: It says something else.
    """
    check_sizes(report, CHECKPOINT, OUT, TARGET_PARAMETERS)
    check_same_weights(CHECKPOINT, OUT)
    reported = report.accuracy
    if reported is None or report.verified is None:
        raise ClaimFailed("the report says what was measured and verified")
    claim(f"the report's accuracy before is the one measured here, {baseline:.4f}", reported.baseline == baseline)
    found = accuracy_elsewhere(OUT / "model.dense.safetensors", TEST_SPLIT)
    claim(f"a process that cannot import adtn measures {found:.4f}, exactly as reported", found == reported.final)
    claim(f"that is at most {LARGEST_DROP:.0%} less than before", found >= baseline - LARGEST_DROP)
    verified = report.verified["fresh_process"] is True and report.verified["accuracy"] == found
    claim("the service had verified the same in a fresh process", verified)


if __name__ == "__main__":
    raise SystemExit(main())
