"""What the demo claims, checked against the files and not against what anybody says about them."""

import subprocess
import sys
import sysconfig
from pathlib import Path

import torch
from safetensors.torch import load_file

import adtn
from jobs.schemas.report import Report


class ClaimFailed(Exception):
    """Something is not as claimed."""


def claim(text: str, holds: bool) -> None:
    """Print a claim that holds.

    Raises:
        ClaimFailed: It does not.
    """
    if not holds:
        raise ClaimFailed(text)
    print(f"  ok  {text}")


def check_sizes(report: Report, checkpoint: Path, out: Path, target: int) -> None:
    """Compare the report's counts and bytes with the tensors and files that there are."""
    original, stored = load_file(checkpoint), load_file(out / "model.adtn.safetensors")
    parameters = report.parameters
    gates = {f"{layer.name}.weight.gates": layer for layer in parameters.layers}
    count = sum(stored[key].numel() for key in gates)
    claim(f"the encoded layers hold {count} numbers, at most the {target} asked for", count <= target)
    claim(
        "the report counts each of them as stored",
        count == parameters.encoded.compressed
        and all(stored[key].numel() == layer.compressed for key, layer in gates.items()),
    )
    total = sum(tensor.numel() for tensor in original.values())
    claim(f"the checkpoint held {total} numbers, as reported", total == parameters.original)
    left = sum(tensor.numel() for tensor in stored.values())
    claim(f"the compressed file holds {left} numbers, as reported", left == parameters.compressed)
    sizes = {name: (out / name).stat().st_size for name in report.bytes["artifacts"]}
    claim(f"files are as large as reported: {sizes}", sizes == report.bytes["artifacts"])


def check_same_weights(checkpoint: Path, out: Path) -> None:
    """Compare the two artifacts with each other, and with the layout of the checkpoint."""
    original, dense = load_file(checkpoint), load_file(out / "model.dense.safetensors")
    decoded = adtn.decode(out / "model.adtn.safetensors")
    layout = {key: (tensor.shape, tensor.dtype) for key, tensor in original.items()}
    claim(
        "the dense artifact has the checkpoint's keys, shapes and dtypes",
        layout == {key: (tensor.shape, tensor.dtype) for key, tensor in dense.items()},
    )
    claim(
        "the compressed artifact decodes to the dense one, bit by bit",
        decoded.keys() == dense.keys() and all(torch.equal(decoded[key], dense[key]) for key in dense),
    )


def accuracy_elsewhere(dense: Path, test_split: Path) -> float:
    """The accuracy that a fresh process without adtn measures.

    Raises:
        ClaimFailed: The process fails.
    """
    script = Path(__file__).with_name("stranger.py")
    site_packages = sysconfig.get_path("purelib")
    command = [sys.executable, "-I", "-S", str(script), site_packages, str(dense), str(test_split)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise ClaimFailed(f"the dense artifact cannot be used without adtn: {done.stderr.strip()}")
    return float(done.stdout)
