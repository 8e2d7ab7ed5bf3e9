"""The loader that is given away with compressed checkpoints: one file that needs no adtn."""

import ast
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from structures import structures
from torch import Tensor, nn

from adtn import ADTN, FormatError, Sum, brick_wall, decode, encode, encode_together, save, standalone
from adtn.coding import unpack
from adtn.structure import AnyStructure, Structure

SOURCE = Path(standalone.__file__)
TOLERANCES = {torch.float16: 1e-3, torch.bfloat16: 8e-3, torch.float32: 1e-5, torch.float64: 1e-13}


@st.composite
def compressed(draw: st.DrawFn) -> nn.Linear:
    """A layer whose weight is any structure or sum, in any form in which gates are stored."""
    structure: AnyStructure = draw(structures())
    if draw(st.booleans()):
        fine = Structure((structure.size,), (((0, 1),),))
        structure = Sum((structure, fine)) if structure.size < 200 else Sum((structure, structure))
    entries = draw(st.integers(max(1, structure.size // 2), structure.size))
    dtype = draw(st.sampled_from(list(TOLERANCES)))
    model = nn.Linear(entries, 1, dtype=dtype)
    adtn = ADTN((1, entries), structure, dtype, torch.Generator().manual_seed(draw(st.integers(0, 9))))
    bits = draw(st.none() | st.integers(2, 8)) if structure.parameters < 2000 else None  # the coder is slow
    if bits is not None:
        adtn.quantise(bits)
    encode(model, "weight", adtn)
    return model


def assert_same_state(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    """Equal keys, shapes and dtypes; numbers equal but for the order of sums."""
    assert found.keys() == expected.keys()
    for key, tensor in expected.items():
        assert found[key].dtype == tensor.dtype
        assert found[key].shape == tensor.shape
        assert largest_difference(found[key], tensor) <= TOLERANCES.get(tensor.dtype, 0)


def largest_difference(found: Tensor, expected: Tensor) -> float:
    """Relative to the largest entry."""
    difference = float((found.double() - expected.double()).abs().max())
    return difference and difference / float(expected.double().abs().max())


@settings(max_examples=20, deadline=None)
@given(compressed())
def test_any_compressed_weight_is_decoded_as_by_the_library(tmp_path_factory: Any, model: nn.Linear) -> None:
    path = tmp_path_factory.mktemp("file") / "m.safetensors"
    save(model, path)
    assert_same_state(standalone.decode(path), decode(path))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file with a tied weight, a group of two weights in few bits, and buffers."""
    model = nn.ModuleDict(
        {"words": nn.Embedding(20, 12), "norm": nn.BatchNorm1d(12), "fc": nn.Linear(12, 20), "head": nn.Linear(12, 20)}
    )
    model["head"].weight = model["words"].weight
    encode(model, "words.weight", ADTN((20, 12), brick_wall(8, 2)))
    group = nn.ModuleDict({"a": nn.Linear(10, 6), "b": nn.Linear(6, 10)})
    model["group"] = group
    shared = ADTN((120,), brick_wall(7, 2, 2, "tanh"))
    shared.quantise(3)
    encode_together(model, ["group.a.weight", "group.b.weight"], shared)
    save(model, tmp_path / "m.safetensors")
    return tmp_path / "m.safetensors"


def test_ties_groups_and_buffers_come_back(path: Path) -> None:
    found, expected = standalone.decode(path), decode(path)
    assert_same_state(found, expected)
    assert found["head.weight"] is found["words.weight"]
    assert found["group.b.weight"].shape == (10, 6)


def test_it_runs_alone_from_the_command_line(path: Path, tmp_path: Path) -> None:
    loader, target = tmp_path / "adtn_loader.py", tmp_path / "dense.safetensors"
    loader.write_bytes(SOURCE.read_bytes())
    subprocess.run([sys.executable, "-I", loader, path, target], cwd=tmp_path, check=True, timeout=60)
    assert_same_state(load_file(target), decode(path))


def test_it_is_short_and_needs_torch_and_safetensors_only() -> None:
    text = SOURCE.read_text()
    imports = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Import | ast.ImportFrom)]
    names = {node.module if isinstance(node, ast.ImportFrom) else node.names[0].name for node in imports}
    packages = {str(name).split(".")[0] for name in names}
    assert packages - set(sys.stdlib_module_names) == {"torch", "safetensors"}
    assert len(text.splitlines()) < 220


def spoilt(path: Path, change: Any) -> Path:
    """A copy of a file after `change(tensors, header)`."""
    with safe_open(path, "pt") as file:
        header = json.loads(file.metadata()["adtn"])
    tensors = load_file(path)
    change(tensors, header)
    bad = path.with_name("bad.safetensors")
    save_file(tensors, bad, metadata={"adtn": json.dumps(header)})
    return bad


GROUP = "group.a.weight"
CODE, FLOATS = f"{GROUP}.gates", "words.weight.gates"


def layers_of(header: dict[str, Any]) -> list[list[list[int]]]:
    """The TN layers of the tied weight."""
    layers: list[list[list[int]]] = header["encoded"]["words.weight"]["structure"]["tn_layers"]
    return layers


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda tensors, header: header.update(version=4), "expected version 3 or older, got 4"),
        (lambda tensors, header: tensors.pop(FLOATS), r"expected the tensor 'words\.weight\.gates'"),
        (lambda tensors, header: tensors.update({FLOATS: tensors[FLOATS][1:]}), r"words\.weight: gates: expected"),
        (lambda tensors, header: tensors.update({FLOATS: tensors[FLOATS].double()}), "numbers of torch.float32"),
        (lambda tensors, header: tensors.update({CODE: tensors[CODE][:-1]}), r"group\.a\.weight: gates: expected"),
        (lambda tensors, header: tensors.update({CODE: tensors[CODE][:0]}), "expected the code of"),
        (lambda tensors, header: tensors.update({CODE: tensors[CODE].repeat(2)}), "expected the code of"),
        (lambda tensors, header: header["encoded"]["words.weight"].update(shape=[30, 12]), "expected networks with"),
        (lambda tensors, header: header["encoded"]["words.weight"].update(dtype="load"), r"words\.weight: 'load'"),
        (lambda tensors, header: header["encoded"]["words.weight"].update(shape=[15]), "expected networks with"),
        (lambda tensors, header: header["encoded"]["words.weight"].update(shape=[-12, -20]), "positive shapes"),
        (lambda tensors, header: header["encoded"][GROUP]["parts"][1].update(shape=[-1, 60]), "positive shapes"),
        (lambda tensors, header: header["encoded"][GROUP]["parts"].pop(), r"group\.a\.weight: expected .* 120 entries"),
        (lambda tensors, header: header["encoded"][GROUP]["parts"][1].update(key="words.weight"), "once, got it twice"),
        (lambda tensors, header: tensors.update({"words.weight": torch.zeros(20, 12)}), "once, got it twice"),
        (lambda tensors, header: layers_of(header)[0].append([7, 9]), r"expected 0 <= start < stop <= 8, got \[7, 9\]"),
        (lambda tensors, header: layers_of(header)[0].append([-2, 1]), r"got \[-2, 1\]"),
        (lambda tensors, header: layers_of(header)[0].append([3, 3]), r"got \[3, 3\]"),
        (
            lambda tensors, header: layers_of(header).__setitem__(slice(None), [[[0, 7]]]),
            "expected a gate on every site",
        ),
        (lambda tensors, header: header["aliases"].update(more="nothing"), "alias 'more': expected .* 'nothing'"),
        (
            lambda tensors, header: header["aliases"].update(more="head.weight"),
            "alias 'more': expected .* 'head.weight'",
        ),
        (
            lambda tensors, header: header["aliases"].update(more=FLOATS),
            "alias 'more': expected .* 'words.weight.gates'",
        ),
        (lambda tensors, header: header["aliases"].update({"norm.bias": "norm.weight"}), "alias 'norm.bias': expected"),
        (lambda tensors, header: header["encoded"][GROUP].update(bits=1), "bits: expected 2 to 8, got 1"),
        (lambda tensors, header: header["encoded"][GROUP].update(bits=9), "bits: expected 2 to 8, got 9"),
    ],
)
def test_a_spoilt_file_is_refused(path: Path, change: Any, message: str) -> None:
    bad = spoilt(path, change)
    with pytest.raises(ValueError, match=message):
        standalone.decode(bad)
    with pytest.raises(FormatError):
        decode(bad)


def test_a_truncated_file_is_refused(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(SafetensorError):
        standalone.decode(path)


def test_a_file_without_a_header_is_refused(tmp_path: Path) -> None:
    save_file({"a": torch.zeros(1)}, tmp_path / "plain.safetensors")
    with pytest.raises(ValueError, match="this is not a compressed checkpoint"):
        standalone.decode(tmp_path / "plain.safetensors")


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=40), st.integers(1, 60), st.integers(2, 8))
def test_bytes_that_the_library_refuses_are_refused(data: bytes, count: int, bits: int) -> None:
    try:
        expected = unpack(data, count, bits)
    except FormatError:
        with pytest.raises(ValueError, match="expected the code"):
            standalone.read_integers(data, count, bits)
    else:
        assert standalone.read_integers(data, count, bits) == expected
