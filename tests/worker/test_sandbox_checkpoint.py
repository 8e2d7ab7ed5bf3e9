"""Checkpoints that people have: each comes out of the sandbox number for number, whatever way it was saved."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save
from torch import Tensor, nn

from worker.sandbox import Inspection, Limits, read_upload

Read = Callable[[object], Inspection]


class Net(nn.Module):
    """Every kind of state: convolution, batch norm with its buffers, a bare parameter, a tied pair."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)
        self.norm = nn.BatchNorm2d(8)
        self.embed = nn.Embedding(30, 16)
        self.out = nn.Linear(16, 30, bias=False)
        self.out.weight = self.embed.weight
        self.tokens = nn.Parameter(torch.randn(2, 5))
        self.scale = nn.Parameter(torch.tensor(2.0))


@pytest.fixture
def net() -> Net:
    torch.manual_seed(0)
    return Net()


@pytest.fixture
def read(tmp_path: Path) -> Read:
    """Saves an object with torch.save, or takes the path of a file, and reads it in the sandbox."""

    def inspect(value: object, **options: object) -> Inspection:
        source, out = tmp_path / "upload", tmp_path / "out"
        out.mkdir()
        if isinstance(value, Path):
            source = value
        else:
            torch.save(value, source, **options)
        return read_upload(source, "checkpoint", "no_hint", out, Limits())

    return inspect


def require_same(found: Inspection, expected: dict[str, Tensor]) -> None:
    """Every key is stored or an alias, with the bits and the dtype it had."""
    stored = load_file(found.tensors)
    assert stored.keys() | found.aliases.keys() == expected.keys()
    assert stored.keys() & found.aliases.keys() == set()
    for key, tensor in expected.items():
        actual = stored[found.aliases.get(key, key)]
        assert actual.dtype == tensor.dtype, key
        assert torch.equal(actual, tensor), key


@pytest.mark.parametrize("zipped", [True, False])
def test_a_state_dict_comes_out_as_it_went_in_with_ties_kept_once(net: Net, read: Read, zipped: bool):
    found = read(net.state_dict(), _use_new_zipfile_serialization=zipped)

    require_same(found, net.state_dict())
    assert found.format == "pytorch"
    assert found.aliases == {"out.weight": "embed.weight"}
    assert found.summary == {
        "parameters": sum(parameter.numel() for parameter in net.parameters()),
        "layers": 3,
        "key_prefix": "",
        "notes": [],
    }
    assert [(layer["name"], layer["kind"], layer["shape"], layer["parameters"]) for layer in found.layers] == [
        ("tokens", "linear", [2, 5], 10),
        ("conv", "conv2d", [8, 3, 3, 3], 216),
        ("embed", "linear", [30, 16], 480),
    ]
    assert {layer["dtype"] for layer in found.layers} == {"float32"}


@pytest.mark.parametrize("misaligned_by", [0, 3])
def test_a_safetensors_file_comes_out_as_it_went_in_at_any_alignment(tmp_path: Path, read: Read, misaligned_by: int):
    state = {"a.weight": torch.randn(7, 9), "b": torch.randn(3, dtype=torch.float64), "n": torch.tensor(5)}
    data = save(state)
    length = int.from_bytes(data[:8], "little")
    header = data[8 : 8 + length] + b" " * misaligned_by
    path = tmp_path / "m.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header + data[8 + length :])
    found = read(path)
    require_same(found, state)
    assert found.format == "safetensors"
    assert found.summary["parameters"] == 66


def test_every_accepted_dtype_is_kept(read: Read):
    dtypes = [torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.bool, torch.uint8, torch.int8]
    dtypes += [torch.int16, torch.int32, torch.int64, torch.uint16, torch.uint32, torch.uint64]
    state = {str(dtype): torch.tensor([[0, 1], [1, 0]]).to(dtype) for dtype in dtypes}
    found = read(state)
    require_same(found, state)
    assert found.summary["parameters"] == 4 * 4


def test_views_and_transposes_come_out_as_dense_tensors(read: Read):
    fused = torch.randn(12, 5)
    state = {"q": fused[:4], "k": fused[4:8], "v": fused[8:], "t": torch.randn(3, 7).T, "every": torch.randn(10)[::2]}
    found = read(state)
    require_same(found, state)
    assert found.aliases == {}


def test_a_training_checkpoint_is_unwrapped_and_says_what_was_changed(net: Net, read: Read):
    state = {f"module._orig_mod.{key}": tensor for key, tensor in net.state_dict().items()}
    found = read({"epoch": 3, "state_dict": state, "optimizer": {"state": {0: torch.ones(3)}, "param_groups": []}})
    require_same(found, net.state_dict())
    assert found.summary["key_prefix"] == "module._orig_mod."
    assert found.summary["notes"] == [
        "weights taken from 'state_dict'; left out: 'epoch', 'optimizer'",
        f"prefix 'module._orig_mod.' (nn.DataParallel, torch.compile) removed from {len(state)} keys; "
        "the artifacts have it again",
    ]
    assert [layer["name"] for layer in found.layers] == ["tokens", "conv", "embed"]


def test_a_prefix_is_removed_in_safetensors_files_too(tmp_path: Path, read: Read):
    path = tmp_path / "m.safetensors"
    path.write_bytes(save({"module.a.weight": torch.ones(3, 4), "module.b": torch.ones(2)}))
    found = read(path)
    require_same(found, {"a.weight": torch.ones(3, 4), "b": torch.ones(2)})
    assert found.summary["key_prefix"] == "module."


def test_parameters_in_a_dict_are_taken_as_tensors(net: Net, read: Read):
    state = dict(net.named_parameters())
    require_same(read(state), {key: parameter.data for key, parameter in state.items()})
