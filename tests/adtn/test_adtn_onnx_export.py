"""ONNX files with the decoding inside: as small as the gates, and decoded once, by the runtime that loads them."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from safetensors.torch import load_file
from structures import LARGE, structures
from torch import Tensor, nn

from adtn import (
    ADTN,
    ExportError,
    Sum,
    brick_wall,
    encode,
    encode_together,
    encoded,
    interleaved,
    save,
    save_onnx,
    tt_matrix,
)
from adtn.onnx_decoding import MOST_STEPS, decode
from adtn.onnx_nodes import OPSET, Nodes, add_to
from adtn.structure import ACTIVATIONS, Activation, AnyStructure, Structure

KIB = 1024


def run(path: Path, inputs: Tensor, optimised: Path | None = None) -> Tensor:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    if optimised is not None:
        options.optimized_model_filepath = str(optimised)
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    (outputs,) = session.run(["output"], {"input": inputs.numpy()})
    return torch.from_numpy(np.asarray(outputs))


class Network(nn.Module):
    """A convolution, batch norm, a tied weight and two weights of one network."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(2, 6, 3), nn.BatchNorm2d(6)
        self.up, self.down = nn.Linear(96, 40), nn.Linear(40, 96)
        self.again, self.head = nn.Linear(96, 40), nn.Linear(40, 10)
        self.again.weight = self.up.weight

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.norm(self.conv(x))).flatten(1)
        x = torch.relu(self.down(torch.relu(self.up(x))))
        scores: Tensor = self.head(torch.relu(self.again(x)))
        return scores


def network(bits: int | None = None) -> Network:
    torch.manual_seed(0)
    model = Network().eval()
    sites = interleaved((40, 96))
    split = Sum((brick_wall(sites, 2), tt_matrix(rows=(5, 8), columns=(8, 12), bonds=(4,))))
    encode(model, "up.weight", ADTN((40, 96), split))
    encode_together(model, ["down.weight", "head.weight"], ADTN((4240,), brick_wall(13, 2, 2, "tanh")))
    if bits is not None:
        for adtn in encoded(model).values():
            adtn.quantise(bits)
    return model


@pytest.mark.parametrize("bits", [None, 2, 4, 7])
def test_the_file_is_small_and_answers_alike(tmp_path: Path, bits: int | None) -> None:
    model, inputs = network(bits), torch.randn(5, 2, 6, 6)
    save_onnx(model, (2, 6, 6), tmp_path / "m.onnx")
    onnx.checker.check_model(tmp_path / "m.onnx", full_check=True)
    for count in (1, 5):
        outputs = run(tmp_path / "m.onnx", inputs[:count])
        torch.testing.assert_close(outputs, model(inputs[:count]).detach(), rtol=1e-4, atol=1e-5)
    save(model, tmp_path / "m.adtn.safetensors")
    stored = sum(tensor.nbytes for tensor in load_file(tmp_path / "m.adtn.safetensors").values())
    assert (tmp_path / "m.onnx").stat().st_size <= 2 * stored + 64 * KIB
    described = str(onnx.load(tmp_path / "m.onnx").graph.input)
    assert "batch" in described
    assert str(Path(__file__).parent).encode() not in (tmp_path / "m.onnx").read_bytes()


def test_onnxruntime_decodes_when_it_loads(tmp_path: Path) -> None:
    """What is left of the graph has the operators of the network, its weights are initialisers in their full shape."""
    save_onnx(network(3), (2, 6, 6), tmp_path / "m.onnx")
    run(tmp_path / "m.onnx", torch.randn(1, 2, 6, 6), tmp_path / "optimised.onnx")
    graph = onnx.load(tmp_path / "optimised.onnx").graph
    products = [node for node in graph.node if node.op_type in {"Gemm", "FusedGemm", "MatMul"}]
    constants = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    assert len(products) == 4
    assert {frozenset(constants[node.input[1]]) for node in products} == {frozenset({40, 96}), frozenset({10, 40})}
    assert len(graph.node) < 20


def test_weights_that_stay_dense_are_stored_once_and_nothing_else_is_dense(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 256)).eval()
    encode(model, "0.weight", ADTN((256, 256), brick_wall(16, 2)))
    save_onnx(model, (256,), tmp_path / "m.onnx")
    dense = 4 * 256 * 258
    assert dense < (tmp_path / "m.onnx").stat().st_size < dense + 16 * KIB


@pytest.mark.parametrize("bits", [None, 4])
def test_a_weight_more_of_a_known_structure_adds_little_but_its_numbers(tmp_path: Path, bits: int | None) -> None:
    def size(layers: int) -> int:
        model = nn.Sequential(*(nn.Linear(32, 32, bias=False) for _ in range(layers))).eval()
        for layer in range(layers):
            encode(model, f"{layer}.weight", ADTN((32, 32), brick_wall(10, 6)))
        for adtn in encoded(model).values():
            if bits is not None:
                adtn.quantise(bits)
        save_onnx(model, (32,), tmp_path / "m.onnx")
        return (tmp_path / "m.onnx").stat().st_size

    numbers = brick_wall(10, 6).parameters  # 804, in 54 gates
    stored = 4 * numbers if bits is None else numbers // 2 + 4 * 54  # of bits also a scale a gate
    assert size(8) - size(4) <= 4 * (stored + 512)


def weight_in_onnxruntime(adtn: ADTN) -> Tensor:
    """The weight, by the nodes that decode it alone."""
    nodes = Nodes({}, prefix="/")
    output = onnx.helper.make_tensor_value_info(decode(nodes, adtn), onnx.TensorProto.FLOAT, None)
    graph = onnx.helper.make_graph([], "weight", [], [output])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", OPSET)], ir_version=10)
    add_to(model, nodes)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return torch.from_numpy(np.asarray(session.run(None, {})[0]))


def assert_decoded_alike(structure: AnyStructure, bits: int | None = None, dtype: torch.dtype = torch.float32) -> None:
    adtn = ADTN((structure.size,), structure, dtype, torch.Generator().manual_seed(0))
    if bits is not None:
        adtn.quantise(bits)
    expected = adtn().detach().float()
    tolerance = 1e-5 * float(expected.abs().max())
    torch.testing.assert_close(weight_in_onnxruntime(adtn), expected, rtol=0, atol=tolerance)


@settings(max_examples=20, deadline=None)
@given(structures())
def test_any_structure_is_decoded_by_nodes(structure: Structure) -> None:
    assert_decoded_alike(structure)


@pytest.mark.parametrize("name", LARGE)
def test_a_structure_whose_gates_act_together_is_decoded_by_nodes(name: str) -> None:
    assert_decoded_alike(LARGE[name])


def test_a_tn_layer_of_many_gates_is_decoded_by_nodes() -> None:
    row = tuple((site, site + 1) for site in range(12))
    assert len(row) > MOST_STEPS
    assert_decoded_alike(Structure((2,) * 12, (row, row, row[::-1]), "tanh"))


@pytest.mark.parametrize("bits", [None, *range(2, 9)])
def test_every_number_of_bits_is_decoded_by_nodes(bits: int | None) -> None:
    assert_decoded_alike(brick_wall((3, 5, 4, 2), 2), bits)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_weights_have_the_numbers_of_their_dtype(dtype: torch.dtype) -> None:
    assert_decoded_alike(brick_wall(6), None, dtype)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_every_activation_is_decoded_by_nodes(activation: Activation) -> None:
    assert_decoded_alike(brick_wall(7, 3, 2, activation), 5)


class Unknown(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.special.bessel_j0(x)


def test_an_operator_that_onnx_has_not_is_named(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="the model has no form in ONNX"):
        save_onnx(Unknown(), (3,), tmp_path / "m.onnx")
    assert not (tmp_path / "m.onnx").exists()
