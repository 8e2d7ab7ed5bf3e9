"""`adtn inspect` and `adtn decode`: files on this machine, no server."""

import struct
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from typer.testing import CliRunner

import adtn
from adtn_client.cli import app
from adtn_client.commands import output

ADTN = Path(sys.executable).with_name("adtn")


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([ADTN, *arguments], capture_output=True, text=True, timeout=60)


@pytest.fixture(scope="module")
def compressed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    model = nn.Sequential()
    model.add_module("fc1", nn.Linear(64, 32))
    model.add_module("fc2", nn.Linear(32, 10))
    structure = adtn.brick_wall(11)
    adtn.encode(model, "fc1.weight", adtn.ADTN((32, 64), structure))
    path = tmp_path_factory.mktemp("compressed") / "m.adtn.safetensors"
    adtn.save(model, path)
    return path


def test_inspect_counts_what_a_compressed_file_stores(compressed: Path) -> None:
    done = run("inspect", compressed)
    assert done.returncode == 0, done.stderr
    stored = sum(tensor.numel() for tensor in load_file(compressed).values())
    gates = adtn.brick_wall(11).parameters
    line = next(line for line in done.stdout.splitlines() if line.startswith("fc1.weight"))
    assert line.split()[1:7] == ["32", "x", "64", "float32", "2,048", str(gates)]
    assert "11 sites, depth 2" in line
    assert f"2,410 numbers stored as {stored:,}" in done.stdout


def test_inspect_counts_integers_as_numbers_and_shows_their_bytes(tmp_path: Path) -> None:
    model = nn.Sequential()
    model.add_module("fc1", nn.Linear(64, 32))
    module = adtn.ADTN((32, 64), adtn.brick_wall(11))
    module.quantise(4)
    adtn.encode(model, "fc1.weight", module)
    adtn.save(model, tmp_path / "m.safetensors")
    done = run("inspect", tmp_path / "m.safetensors")
    assert done.returncode == 0, done.stderr
    numbers, size = adtn.brick_wall(11).parameters, adtn.stored_bytes(module)
    line = next(line for line in done.stdout.splitlines() if line.startswith("fc1.weight"))
    assert line.split()[5:10] == ["2,048", str(numbers), f"{2048 / numbers:.1f}", "4", str(size)]
    assert f"2,080 numbers stored as {numbers + 32:,}" in done.stdout


def test_inspect_says_which_weights_are_one_network(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(8, 12), nn.Linear(12, 6))
    adtn.encode_together(model, ["0.weight", "1.weight"], adtn.ADTN((168,), adtn.brick_wall(8)))
    adtn.save(model, tmp_path / "m.safetensors")
    done = run("inspect", tmp_path / "m.safetensors")
    assert done.returncode == 0, done.stderr
    assert "0.weight is one network for 0.weight (12 x 8), 1.weight (6 x 12)" in done.stdout
    assert f"186 numbers stored as {adtn.brick_wall(8).parameters + 18}" in done.stdout


def test_a_sum_is_shown_term_by_term() -> None:
    shown = output.structure(adtn.Sum((adtn.brick_wall(11), adtn.staircase((32, 64)))).summary())
    first, second = (
        "11 sites, depth 2, gates over up to 2 sites, relu",
        "2 sites, depth 1, gates over up to 2 sites, relu",
    )
    assert shown == f"{first} + {second}"


def test_inspect_lists_a_plain_file(tmp_path: Path) -> None:
    save_file({"w": torch.zeros(3, 4, dtype=torch.float16), "s": torch.zeros(())}, tmp_path / "m.safetensors")
    done = run("inspect", tmp_path / "m.safetensors")
    assert done.returncode == 0, done.stderr
    assert [line.split() for line in done.stdout.splitlines()[1:3]] == [
        ["s", "scalar", "F32", "1"],
        ["w", "3", "x", "4", "F16", "12"],
    ]
    assert "13 numbers" in done.stdout


def test_decode_writes_what_the_library_decodes(compressed: Path, tmp_path: Path) -> None:
    done = run("decode", compressed, tmp_path / "dense.safetensors")
    assert done.returncode == 0, done.stderr
    expected = adtn.decode(compressed)
    written = load_file(tmp_path / "dense.safetensors")
    assert written.keys() == expected.keys()
    assert all(torch.equal(written[key], expected[key]) for key in expected)


def test_decode_of_a_plain_file_says_that_it_is_none_of_ours(tmp_path: Path) -> None:
    save_file({"w": torch.zeros(3)}, tmp_path / "m.safetensors")
    done = run("decode", tmp_path / "m.safetensors", tmp_path / "out.safetensors")
    assert done.returncode == 1
    assert "this is not a compressed checkpoint" in done.stderr
    assert not (tmp_path / "out.safetensors").exists()


def header(text: bytes) -> bytes:
    return struct.pack("<Q", len(text)) + text


@pytest.mark.parametrize("verb", ["inspect", "decode"])
@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"PK\x03\x04 a zip, not a header",
        header(b"{}")[:5],
        header(b"[1]"),
        header(b'{"w": 1}'),
        header(b'{"w": {"dtype": "F32", "shape": "x", "data_offsets": [0, 4]}}'),
        header(b'{"__metadata__": {"adtn": "{"}}'),
        header(b"[" * 100_000),
    ],
)
def test_damaged_file_is_one_sentence(tmp_path: Path, verb: str, content: bytes) -> None:
    path = tmp_path / "damaged.safetensors"
    path.write_bytes(content)
    arguments = [verb, str(path), *([str(tmp_path / "out")] if verb == "decode" else [])]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 1
    assert done.stderr.startswith("adtn: ")
    assert "damaged.safetensors" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_missing_torch_is_one_sentence(compressed: Path) -> None:
    code = "import sys; sys.modules['torch'] = None; from adtn_client.cli import app; app()"
    done = subprocess.run([sys.executable, "-c", code, "inspect", compressed], capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr == "adtn: this command needs PyTorch on this machine, and torch is not installed\n"
