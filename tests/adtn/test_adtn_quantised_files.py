"""Files whose gates are integers: format version 2."""

import copy
import json
import struct
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from adtn import ADTN, FormatError, Sum, brick_wall, decode, encode, encoded, load, save, stored_bytes
from adtn.quantising import integers
from adtn.structure import AnyStructure

STRUCTURES: dict[str, AnyStructure] = {
    "one scale": brick_wall(8),
    "a scale a TN layer": brick_wall(8, 3, 2, "tanh"),
    "a sum": Sum((brick_wall(8), brick_wall(8, 1, 3))),
}


def network(seed: int = 0, dtype: torch.dtype = torch.float32) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(20, 12), nn.ReLU(), nn.Linear(12, 20)).to(dtype)


def quantised(
    bits: int = 4, structure: AnyStructure = STRUCTURES["one scale"], dtype: torch.dtype = torch.float32
) -> nn.Sequential:
    """A network with one weight in few bits and one in floats."""
    model = network(0, dtype)
    for key, shape in (("0.weight", (12, 20)), ("2.weight", (20, 12))):
        encode(model, key, ADTN(shape, structure, dtype, torch.Generator().manual_seed(len(key))))
    encoded(model)["0.weight"].quantise(bits)
    return model


def header_of(path: Path) -> dict[str, Any]:
    header: dict[str, Any] = json.loads(safe_open(path, "pt").metadata()["adtn"])
    return header


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.float64])
@pytest.mark.parametrize("bits", range(2, 9))
@pytest.mark.parametrize("structure", STRUCTURES.values(), ids=STRUCTURES)
def test_what_is_decoded_is_to_the_last_bit_what_the_model_had(
    tmp_path: Path, structure: AnyStructure, bits: int, dtype: torch.dtype
) -> None:
    model = quantised(bits, structure, dtype)
    save(model, tmp_path / "m.safetensors")
    other = load(tmp_path / "m.safetensors", network(1, dtype))
    state = decode(tmp_path / "m.safetensors")
    for key in ("0.weight", "2.weight"):
        expected = encoded(model)[key]()
        assert torch.equal(encoded(other)[key](), expected)
        assert torch.equal(state[key], expected)
        assert state[key].dtype == dtype
    assert encoded(other)["0.weight"].bits == bits
    assert encoded(other)["2.weight"].bits is None


def test_a_loaded_model_saves_to_the_same_bytes(tmp_path: Path) -> None:
    save(quantised(), tmp_path / "a.safetensors")
    save(load(tmp_path / "a.safetensors", network(1)), tmp_path / "b.safetensors")
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()


def test_the_header_says_bits_and_scales_and_the_gates_are_bytes(tmp_path: Path) -> None:
    model = quantised(4)
    save(model, tmp_path / "m.safetensors")
    header, tensors = header_of(tmp_path / "m.safetensors"), load_file(tmp_path / "m.safetensors")
    adtn = encoded(model)["0.weight"]
    assert header["version"] == 2
    assert header["encoded"]["0.weight"]["bits"] == 4
    assert torch.equal(torch.tensor(header["encoded"]["0.weight"]["scales"]), adtn.scales)
    assert set(header["encoded"]["2.weight"]) == {"shape", "dtype", "structure"}
    gates = tensors["0.weight.gates"]
    assert (gates.dtype, gates.ndim) == (torch.uint8, 1)
    assert stored_bytes(adtn) == gates.nbytes <= adtn.gates.numel() / 2 + 4
    assert stored_bytes(encoded(model)["2.weight"]) == 4 * adtn.gates.numel()


def test_files_without_integers_stay_version_1(tmp_path: Path) -> None:
    model = network()
    encode(model, "0.weight", ADTN((12, 20), brick_wall(8)))
    save(model, tmp_path / "m.safetensors")
    assert header_of(tmp_path / "m.safetensors")["version"] == 1


def test_ties_are_stored_once(tmp_path: Path) -> None:
    model = nn.ModuleDict({"words": nn.Embedding(20, 12), "head": nn.Linear(12, 20)})
    model["head"].weight = model["words"].weight
    adtn = ADTN((20, 12), brick_wall(8))
    adtn.quantise(5)
    encode(model, "words.weight", adtn)
    save(model, tmp_path / "m.safetensors")
    assert sorted(load_file(tmp_path / "m.safetensors")) == ["head.bias", "words.weight.gates"]
    other = nn.ModuleDict({"words": nn.Embedding(20, 12), "head": nn.Linear(12, 20)})
    load(tmp_path / "m.safetensors", other)
    assert torch.equal(other["head"].weight, adtn())
    assert list(encoded(other)) == ["words.weight"]


def test_gates_that_are_not_finite_are_not_written(tmp_path: Path) -> None:
    model = quantised()
    with torch.no_grad():
        encoded(model)["0.weight"].gates[3] = float("nan")
    with pytest.raises(FormatError, match=r"0\.weight: gates: expected finite numbers"):
        save(model, tmp_path / "m.safetensors")
    assert not list(tmp_path.iterdir())


def test_a_scale_that_no_reader_takes_is_not_written(tmp_path: Path) -> None:
    model = quantised()
    adtn = encoded(model)["0.weight"]
    with torch.no_grad():
        adtn.gates.mul_(1e-32)
    adtn.quantise(4)
    with pytest.raises(FormatError, match=r"0\.weight: expected scales from 2\^-100 to 2\^100, got \d\.\d+e-3\d$"):
        save(model, tmp_path / "m.safetensors")
    assert not list(tmp_path.iterdir())


@pytest.fixture
def good(tmp_path: Path) -> tuple[dict[str, Tensor], dict[str, Any], Path]:
    """The tensors and the header of a good file, and a path for a spoilt one."""
    save(quantised(), tmp_path / "good.safetensors")
    return (
        load_file(tmp_path / "good.safetensors"),
        header_of(tmp_path / "good.safetensors"),
        tmp_path / "bad.safetensors",
    )


def assert_refused(path: Path, tensors: dict[str, Tensor], header: object, message: str) -> None:
    save_file(tensors, path, metadata={"adtn": header if isinstance(header, str) else json.dumps(header)})
    model = network(1)
    before = copy.deepcopy(model.state_dict())
    for call in (lambda: decode(path), lambda: load(path, model)):
        with pytest.raises(FormatError, match=message):
            call()
    assert model.state_dict().keys() == before.keys()
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"bits": 1}, r"0\.weight: bits: expected an integer from 2 to 8, got 1"),
        ({"bits": 9}, "expected an integer from 2 to 8"),
        ({"bits": True}, "expected an integer from 2 to 8"),
        ({"bits": 4.0}, "expected an integer from 2 to 8"),
        ({"bits": None}, "expected an integer from 2 to 8"),
        ({"scales": []}, "expected a list of 1 scales"),
        ({"scales": [0.1, 0.1]}, "expected a list of 1 scales"),
        ({"scales": 0.1}, "expected a list of 1 scales"),
        ({"scales": [0]}, r"expected scales from 2\^-100 to 2\^100, got 0"),
        ({"scales": [-0.1]}, "expected scales from"),
        ({"scales": [1e-40]}, "expected scales from"),
        ({"scales": [10**400]}, "expected scales from"),
        ({"scales": [True]}, "expected scales from"),
        ({"scales": ["0.1"]}, "expected scales from"),
        ({"scales": [float("nan")]}, "expected scales from"),
        ({"scales": [float("inf")]}, "expected scales from"),
        ({"extra": 1}, "expected shape, dtype and structure, with bits also scales"),
        ({"structure": brick_wall(9).to_json()}, r"0\.weight\.gates: "),
        ({"structure": brick_wall(11, 10**4, 8).to_json()}, r"0\.weight\.gates: expected at least \d{8} bytes"),
    ],
)
def test_a_wrong_entry_of_the_header_is_refused(
    good: tuple[dict[str, Tensor], dict[str, Any], Path], change: dict[str, Any], message: str
) -> None:
    tensors, header, path = good
    header["encoded"]["0.weight"] |= change
    assert_refused(path, tensors, header, message)


@pytest.mark.parametrize("field", ["bits", "scales"])
def test_bits_and_scales_come_together(good: tuple[dict[str, Tensor], dict[str, Any], Path], field: str) -> None:
    tensors, header, path = good
    del header["encoded"]["0.weight"][field]
    assert_refused(path, tensors, header, "with bits also scales")


def test_version_1_has_no_integers(good: tuple[dict[str, Tensor], dict[str, Any], Path]) -> None:
    tensors, header, path = good
    assert_refused(path, tensors, header | {"version": 1}, "expected shape, dtype and structure, got")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda code: code[:-1], "range coder|expected the end"),
        (lambda code: code[:20], "range coder: expected more than 19 bytes"),
        (lambda code: code[:1], "expected at least 7 bytes for 176 integers, got 1"),
        (lambda code: code[:0], "expected at least 7 bytes"),
        (lambda code: torch.cat([code, code]), "range coder: expected .* bytes, got"),
        (lambda code: torch.cat([code, torch.zeros(1, dtype=torch.uint8)]), "range coder: expected .* bytes, got"),
        (lambda code: code.view(1, -1), "expected one dimension and torch.uint8, got 2 dimensions"),
        (lambda code: code.to(torch.int8), "expected one dimension and torch.uint8, got 1 dimensions and torch.int8"),
        (lambda code: code.float(), "expected one dimension and torch.uint8"),
        (lambda code: torch.full_like(code, 255), "range coder: "),
    ],
)
def test_a_wrong_code_is_refused(
    good: tuple[dict[str, Tensor], dict[str, Any], Path], spoil: Any, message: str
) -> None:
    tensors, header, path = good
    tensors["0.weight.gates"] = spoil(tensors["0.weight.gates"]).clone()
    assert_refused(path, tensors, header, rf"0\.weight\.gates: .*({message})")


def test_floats_without_bits_are_not_taken_for_a_code(good: tuple[dict[str, Tensor], dict[str, Any], Path]) -> None:
    tensors, header, path = good
    header["encoded"]["2.weight"] |= {"bits": 4, "scales": [0.1]}
    assert_refused(path, tensors, header, r"2\.weight\.gates: expected one dimension and torch.uint8")


def test_the_file_is_smaller_by_what_the_gates_are(tmp_path: Path) -> None:
    model = quantised(4)
    save(model, tmp_path / "small.safetensors")
    with (tmp_path / "small.safetensors").open("rb") as file:
        (header_bytes,) = struct.unpack("<Q", file.read(8))
    data = (tmp_path / "small.safetensors").stat().st_size - 8 - header_bytes
    dense = sum(tensor.nbytes for key, tensor in model.state_dict().items() if key.endswith("bias"))
    adtns = encoded(model).values()
    assert data == dense + sum(stored_bytes(adtn) for adtn in adtns)


def test_integers_are_what_the_code_holds() -> None:
    adtn = encoded(quantised(6))["0.weight"]
    numbers = integers(adtn.gates, adtn.scales, adtn.structure, 6)
    assert torch.equal(numbers.float() * adtn.scales, adtn.numbers())
