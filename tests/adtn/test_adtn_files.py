import copy
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from adtn import (
    ADTN,
    FORMAT_VERSION,
    FitOptions,
    FormatError,
    brick_wall,
    compress,
    contract,
    decode,
    encode,
    encode_together,
    encoded,
    load,
    save,
)
from adtn.files import Decode
from adtn.header import Header
from adtn.ties import gather_ties


class Network(nn.Module):
    """Ties of every sort, buffers, several dtypes."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(20, 8)
        self.head = nn.Linear(8, 20)
        self.head.weight = self.words.weight
        self.first = nn.Linear(8, 16)
        self.second = nn.Linear(8, 16)
        self.second.weight = self.first.weight
        self.conv = nn.Conv2d(4, 4, 3).half()
        self.norm = nn.BatchNorm1d(16)
        self.plain = nn.Linear(16, 8)
        self.again = self.plain
        self.register_buffer("table", torch.arange(6.0).view(2, 3).T)


class WithExtraState(nn.Module):
    def get_extra_state(self) -> dict[str, str]:
        return {"not": "a tensor"}


def network(seed: int = 0) -> Network:
    torch.manual_seed(seed)
    return Network()


def compressed_network() -> Network:
    model = network()
    structures = {"words.weight": brick_wall(8), "conv.weight": brick_wall(8, 1), "plain.weight": brick_wall(7, 1)}
    compress(model, structures, FitOptions(steps=3))
    return model


def dense_state(model: nn.Module) -> dict[str, Tensor]:
    """The state_dict with encoded weights decoded, from the model itself."""
    state = {key: value for key, value in model.state_dict().items() if ".parametrizations." not in key}
    for key in ("words.weight", "head.weight", "conv.weight", "plain.weight", "again.weight"):
        prefix, _, name = key.rpartition(".")
        state[key] = getattr(model.get_submodule(prefix), name).detach()
    return state


def assert_same(actual: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert actual.keys() == expected.keys()
    for key, value in expected.items():
        assert actual[key].dtype == value.dtype, key
        assert torch.equal(actual[key], value), key


def test_decoded_file_is_the_dense_state_dict(tmp_path: Path) -> None:
    model = compressed_network()
    save(model, tmp_path / "m.adtn.safetensors")
    decoded = decode(tmp_path / "m.adtn.safetensors")
    assert_same(decoded, dense_state(model))
    network(1).load_state_dict(decoded)
    assert decoded["head.weight"] is decoded["words.weight"]
    assert decoded["second.weight"] is decoded["first.weight"]


def test_loaded_model_has_the_same_gates_ties_and_dense_rest(tmp_path: Path) -> None:
    model = compressed_network()
    save(model, tmp_path / "m.safetensors")
    other = network(1)
    assert load(tmp_path / "m.safetensors", other) is other
    assert_same(other.state_dict(), model.state_dict())
    assert list(encoded(other)) == list(encoded(model))
    assert other.head.parametrizations.weight[0] is other.words.parametrizations.weight[0]
    assert other.first.weight is other.second.weight


def test_a_loaded_model_saves_to_the_same_bytes(tmp_path: Path) -> None:
    save(compressed_network(), tmp_path / "a.safetensors")
    save(load(tmp_path / "a.safetensors", network(1)), tmp_path / "b.safetensors")
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()


def test_ties_of_the_file_are_tied_in_a_model_without_them(tmp_path: Path) -> None:
    save(compressed_network(), tmp_path / "m.safetensors")
    loose = network(1)
    loose.head.weight = nn.Parameter(torch.zeros(20, 8))
    load(tmp_path / "m.safetensors", loose)
    assert list(encoded(loose)) == ["words.weight", "conv.weight", "plain.weight"]


def test_file_holds_gates_the_dense_rest_once_and_the_header(tmp_path: Path) -> None:
    model = compressed_network()
    save(model, tmp_path / "m.safetensors")
    tensors = load_file(tmp_path / "m.safetensors")
    assert sorted(tensors) == sorted(
        ["words.weight.gates", "conv.weight.gates", "plain.weight.gates", "head.bias", "first.weight", "first.bias"]
        + ["second.bias", "conv.bias", "plain.bias", "table"]
        + [f"norm.{name}" for name in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")]
    )
    assert torch.equal(tensors["words.weight.gates"], encoded(model)["words.weight"].gates)
    header = json.loads(safe_open(tmp_path / "m.safetensors", "pt").metadata()["adtn"])
    assert header["version"] == 1 < FORMAT_VERSION
    assert header["aliases"] == {
        "head.weight": "words.weight",
        "again.weight": "plain.weight",
        "second.weight": "first.weight",
        "again.bias": "plain.bias",
    }
    assert header["encoded"]["conv.weight"] == {
        "shape": [4, 4, 3, 3],
        "dtype": "float16",
        "structure": brick_wall(8, 1).to_json(),
    }


def test_a_model_that_is_not_compressed_survives_too(tmp_path: Path) -> None:
    save(network(), tmp_path / "m.safetensors")
    assert_same(decode(tmp_path / "m.safetensors"), network().state_dict())


def test_float64_weights_keep_float64_gates(tmp_path: Path) -> None:
    model = nn.Linear(8, 8).double()
    compress(model, {"weight": brick_wall(6)}, FitOptions(steps=2))
    save(model, tmp_path / "m.safetensors")
    assert load_file(tmp_path / "m.safetensors")["weight.gates"].dtype == torch.float64
    assert torch.equal(decode(tmp_path / "m.safetensors")["weight"], model.weight)


def test_loading_keeps_the_dtype_of_the_model(tmp_path: Path) -> None:
    model = nn.Linear(8, 8)
    compress(model, {"weight": brick_wall(6)}, FitOptions(steps=2))
    save(model, tmp_path / "m.safetensors")
    assert load(tmp_path / "m.safetensors", nn.Linear(8, 8).bfloat16()).weight.dtype == torch.bfloat16


def test_recurrent_models_survive(tmp_path: Path) -> None:
    model = nn.LSTM(8, 8)
    compress(model, {"weight_hh_l0": brick_wall(8)}, FitOptions(steps=2))
    save(model, tmp_path / "m.safetensors")
    inputs = torch.randn(4, 1, 8)
    dense, loaded = nn.LSTM(8, 8), load(tmp_path / "m.safetensors", nn.LSTM(8, 8))
    dense.load_state_dict(decode(tmp_path / "m.safetensors"))
    torch.testing.assert_close(loaded(inputs)[0], model(inputs)[0])
    torch.testing.assert_close(dense(inputs)[0], model(inputs)[0])


def test_a_failed_save_leaves_the_old_file_and_no_rest(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    save(network(), path)
    before = path.read_bytes()
    with pytest.raises(FormatError, match="_extra_state: expected a tensor in the state_dict, got dict"):
        save(WithExtraState(), path)
    assert path.read_bytes() == before
    assert [item.name for item in tmp_path.iterdir()] == ["m.safetensors"]


def test_a_file_that_cannot_be_written_leaves_no_rest(tmp_path: Path) -> None:
    (tmp_path / "m.safetensors").mkdir()
    with pytest.raises(OSError, match="directory"):
        save(network(), tmp_path / "m.safetensors")
    assert [item.name for item in tmp_path.iterdir()] == ["m.safetensors"]


def test_a_module_with_some_of_the_weights_that_its_gates_hold_is_not_written(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8))
    encode_together(model, ["0.weight", "1.weight"], ADTN((128,), brick_wall(7)))
    path = tmp_path / "m.safetensors"
    with pytest.raises(FormatError, match=r"weight: expected parts that fill the shape \[128\], .*, got 64 entries"):
        save(model[0], path)
    assert not list(tmp_path.iterdir())
    save(model, path)
    assert decode(path).keys() == {"0.weight", "0.bias", "1.weight", "1.bias"}


def test_an_entry_with_the_name_of_the_gates_is_refused(tmp_path: Path) -> None:
    clash = nn.Module()
    clash.weight = nn.Parameter(torch.randn(8, 8))
    encode(clash, "weight", ADTN((8, 8), brick_wall(6)))
    clash._buffers["weight.gates"] = torch.zeros(1)
    with pytest.raises(FormatError, match=r"weight\.gates: the state_dict has an entry"):
        save(clash, tmp_path / "m.safetensors")


def test_ties_are_the_same_numbers_in_the_same_memory() -> None:
    base = torch.randn(4, 4)
    state = {"a": base, "b": base.view(4, 4), "c": base.T, "d": base[:2], "e": base.clone(), "f": base.view(16)}
    state |= {"empty": torch.empty(0), "empty too": torch.empty(0)}
    kept, aliases = gather_ties(state)
    assert list(kept) == ["a", "c", "d", "e", "f", "empty", "empty too"]
    assert aliases == {"b": "a"}


@pytest.fixture
def good(tmp_path: Path) -> tuple[dict[str, Tensor], dict[str, Any], Path]:
    """The tensors and the header of a good file, and a path for a spoilt one."""
    save(compressed_network(), tmp_path / "good.safetensors")
    header = json.loads(safe_open(tmp_path / "good.safetensors", "pt").metadata()["adtn"])
    return load_file(tmp_path / "good.safetensors"), header, tmp_path / "bad.safetensors"


def write(path: Path, tensors: dict[str, Tensor], header: object) -> None:
    save_file(tensors, path, metadata={"adtn": header if isinstance(header, str) else json.dumps(header)})


def assert_refused(path: Path, message: str) -> None:
    model = network(1)
    before = copy.deepcopy(model.state_dict())
    for call in (lambda: decode(path), lambda: load(path, model)):
        with pytest.raises(FormatError, match=message):
            call()
    assert_same(model.state_dict(), before)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b'\x08\0\0\0\0\0\0\0{"a": 1}', b"\xff" * 100])
def test_bytes_that_are_no_safetensors_are_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "bad").write_bytes(content)
    assert_refused(tmp_path / "bad", "expected a safetensors file")


def test_a_truncated_file_is_refused(tmp_path: Path) -> None:
    save(compressed_network(), tmp_path / "bad")
    (tmp_path / "bad").write_bytes((tmp_path / "bad").read_bytes()[:-8])
    assert_refused(tmp_path / "bad", "expected a safetensors file")


def test_a_missing_file_is_no_format_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        decode(tmp_path / "none")


def test_a_plain_checkpoint_is_refused(tmp_path: Path) -> None:
    save_file({"a": torch.zeros(1)}, tmp_path / "bad")
    assert_refused(tmp_path / "bad", "not a compressed checkpoint")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": 4}, "expected format version 3 or older, got 4; a newer adtn"),
        ({"version": "1"}, "expected a format version, got '1'"),
        ({"version": True}, "expected a format version"),
        ({"version": 0}, "expected a format version"),
        ({"encoded": []}, "expected the fields"),
        ({"more": 1}, "expected the fields"),
        ({"aliases": {"head.weight": "nowhere"}}, "expected a weight or dense tensor, got the name 'nowhere'"),
        ({"aliases": {"head.weight": 3}}, "alias 'head.weight'"),
        ({"aliases": {"head.weight": "conv.weight.gates"}}, "weight or dense tensor, got .*'conv.weight.gates'"),
        ({"aliases": {"a": "b", "b": "a"}}, "alias 'a'"),
        ({"aliases": {"head.bias": "first.bias"}}, "expected no tensor of that name"),
        ({"aliases": {"words.weight": "first.bias"}}, "expected no tensor of that name"),
    ],
)
def test_a_wrong_header_is_refused(
    good: tuple[dict[str, Tensor], dict[str, Any], Path], change: dict[str, Any], message: str
) -> None:
    tensors, header, path = good
    write(path, tensors, header | change)
    assert_refused(path, message)


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, "3", "null"])
def test_a_header_that_is_no_object_is_refused(good: tuple[dict[str, Tensor], dict[str, Any], Path], text: str) -> None:
    tensors, _, path = good
    write(path, tensors, text)
    assert_refused(path, "not JSON|expected a format version")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"shape": [20, -8]}, "shape of positive integers"),
        ({"shape": "20"}, "shape of positive integers"),
        ({"shape": [20, 80]}, "1600 entries, but the structure holds 256"),
        ({"dtype": "int8"}, "expected a dtype of float16"),
        ({"dtype": []}, "expected a dtype"),
        ({"structure": {}}, "structure: expected an object"),
        ({"structure": brick_wall(9).to_json()}, r"expected shape \(200,\).*got \(176,\)"),
        ({"extra": 1}, "expected shape, dtype and structure"),
        ({"dtype": "float64"}, "expected shape .* and torch.float64, got .* torch.float32"),
    ],
)
def test_a_wrong_entry_of_the_header_is_refused(
    good: tuple[dict[str, Tensor], dict[str, Any], Path], change: dict[str, Any], message: str
) -> None:
    tensors, header, path = good
    header["encoded"]["words.weight"] |= change
    write(path, tensors, header)
    assert_refused(path, message)


def test_gates_that_are_missing_or_dense_as_well_are_refused(
    good: tuple[dict[str, Tensor], dict[str, Any], Path],
) -> None:
    tensors, header, path = good
    write(path, {key: value for key, value in tensors.items() if key != "words.weight.gates"}, header)
    assert_refused(path, r"expected the tensor 'words\.weight\.gates', which is missing")
    write(path, tensors | {"words.weight": torch.zeros(20, 8)}, header)
    assert_refused(path, r"words\.weight: expected gates only")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda tensors: tensors.pop("first.bias"), r"missing \['first\.bias'\], unexpected none"),
        (lambda tensors: tensors.update(new=torch.zeros(1)), r"missing none, unexpected \['new'\]"),
        (
            lambda tensors: tensors.update({"first.bias": torch.zeros(3)}),
            r"first\.bias: expected shape \(16,\), got \(3,\)",
        ),
    ],
)
def test_a_file_that_does_not_fit_the_model_is_refused_before_anything_changes(
    good: tuple[dict[str, Tensor], dict[str, Any], Path], change: Any, message: str
) -> None:
    tensors, header, path = good
    change(tensors)
    write(path, tensors, header)
    model = network(1)
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(FormatError, match=message):
        load(path, model)
    assert_same(model.state_dict(), before)


def test_an_encoded_weight_of_another_shape_or_a_buffer_is_refused(tmp_path: Path) -> None:
    model = nn.Linear(8, 16)
    compress(model, {"weight": brick_wall(7)}, FitOptions(steps=1))
    save(model, tmp_path / "m.safetensors")
    with pytest.raises(FormatError, match=r"weight: expected shape \(8, 16\), got \(16, 8\)"):
        load(tmp_path / "m.safetensors", nn.Linear(16, 8, bias=True))
    buffered = nn.Module()
    buffered.register_buffer("weight", torch.zeros(16, 8))
    buffered.bias = nn.Parameter(torch.zeros(16))
    with pytest.raises(FormatError, match="weight: expected a parameter of the model, got a buffer"):
        load(tmp_path / "m.safetensors", buffered)


def pair(*, tied: bool = False, encoded_keys: Sequence[str] = ()) -> nn.ModuleDict:
    """Two layers of one shape, perhaps with one weight, and with an ADTN in the place of some."""
    torch.manual_seed(0)
    model = nn.ModuleDict({"a": nn.Linear(8, 8), "b": nn.Linear(8, 8)})
    if tied:
        model["b"].weight = model["a"].weight
    for key in encoded_keys:
        encode(model, key, ADTN((8, 8), brick_wall(6)))
    return model


def assert_does_not_fit(path: Path, model: nn.Module, message: str, decode: Decode) -> None:
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(FormatError, match=message):
        load(path, model, decode)
    assert_same(model.state_dict(), before)


@pytest.mark.parametrize("decode", ["each_step", "once"])
@pytest.mark.parametrize("encoded_keys", [("a.weight", "b.weight"), ("a.weight",), ("b.weight",)])
def test_weights_of_their_own_do_not_fit_a_model_that_ties_them(
    tmp_path: Path, encoded_keys: Sequence[str], decode: Decode
) -> None:
    save(pair(encoded_keys=encoded_keys), tmp_path / "m.safetensors")
    message = (
        r"m\.safetensors: b\.weight: expected an alias of 'a\.weight', with which the model ties it, got 'b.weight'"
    )
    assert_does_not_fit(tmp_path / "m.safetensors", pair(tied=True), message, decode)


@pytest.mark.parametrize("decode", ["each_step", "once"])
def test_a_group_does_not_fit_a_model_that_ties_its_weights(tmp_path: Path, decode: Decode) -> None:
    model = pair()
    encode_together(model, ["b.weight", "a.weight"], ADTN((128,), brick_wall(7)))
    save(model, tmp_path / "m.safetensors")
    assert_does_not_fit(tmp_path / "m.safetensors", pair(tied=True), "expected an alias of", decode)


def test_weights_that_share_gates_do_not_fit_parameters_of_two_dtypes(tmp_path: Path) -> None:
    group = pair()
    encode_together(group, ["a.weight", "b.weight"], ADTN((128,), brick_wall(7)))
    for name, model in (("group", group), ("tied", pair(tied=True, encoded_keys=["a.weight"]))):
        save(model, tmp_path / name)
        loose = pair()
        loose["b"].double()
        message = "b.weight: expected torch.float32, as 'a.weight', with which it shares gates, got torch.float64"
        assert_does_not_fit(tmp_path / name, loose, message, "each_step")
        assert load(tmp_path / name, loose, "once")["b"].weight.dtype == torch.float64


def test_a_parameter_of_a_dtype_that_no_gates_decode_to_does_not_fit(tmp_path: Path) -> None:
    save(pair(encoded_keys=["a.weight", "b.weight"]), tmp_path / "m.safetensors")
    model = pair()
    model["b"].weight = nn.Parameter(torch.zeros(8, 8, dtype=torch.complex64))
    message = r"b\.weight: expected a parameter of torch\.float16, .*, got torch\.complex64"
    assert_does_not_fit(tmp_path / "m.safetensors", model, message, "each_step")


def test_a_model_whose_state_is_not_all_tensors_does_not_fit(tmp_path: Path) -> None:
    text = Header({}, {}).to_text()
    save_file({}, tmp_path / "without", metadata={"adtn": text})
    save_file({"_extra_state": torch.zeros(1)}, tmp_path / "with", metadata={"adtn": text})
    with pytest.raises(FormatError, match=r"missing \['_extra_state'\]"):
        load(tmp_path / "without", WithExtraState())
    with pytest.raises(FormatError, match="_extra_state: expected a tensor in the model's state_dict, got dict"):
        load(tmp_path / "with", WithExtraState())


def test_loading_draws_no_random_numbers(tmp_path: Path) -> None:
    save(compressed_network(), tmp_path / "m.safetensors")
    model, state = network(1), torch.get_rng_state()
    load(tmp_path / "m.safetensors", model)
    assert torch.equal(torch.get_rng_state(), state)


def test_the_specified_decoding_is_the_contraction_cut_and_reshaped(tmp_path: Path) -> None:
    save(compressed_network(), tmp_path / "m.safetensors")
    gates = load_file(tmp_path / "m.safetensors")["words.weight.gates"]
    expected = contract(gates, brick_wall(8))[:160].view(20, 8)
    assert torch.equal(decode(tmp_path / "m.safetensors")["words.weight"], expected)


def test_a_model_decoded_once_has_the_weights_and_no_gates(tmp_path: Path) -> None:
    model = compressed_network()
    save(model, tmp_path / "m.safetensors")
    dense = load(tmp_path / "m.safetensors", network(1), decode="once")
    assert_same(dense.state_dict(), decode(tmp_path / "m.safetensors"))
    assert not encoded(dense)
    trained = load(tmp_path / "m.safetensors", network(1), decode="each_step")
    assert encoded(trained).keys() == encoded(model).keys()


def test_a_file_that_does_not_fit_is_not_decoded_into_a_model(tmp_path: Path) -> None:
    save(compressed_network(), tmp_path / "m.safetensors")
    model = nn.Linear(2, 2)
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(FormatError, match="does not fit the model"):
        load(tmp_path / "m.safetensors", model, decode="once")
    assert_same(model.state_dict(), before)
    with pytest.raises(ValueError, match="decode: expected one of once, each_step, got 'twice'"):
        load(tmp_path / "m.safetensors", model, decode="twice")
