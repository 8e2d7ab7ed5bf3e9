"""Graphs of exported programs: the module that runs them does what torch's own module for the file does."""

import copy
import io

import pytest
import torch
from support.exported import KINDS, LeNet, Residual, Transformer, exported, images, seen
from torch import Tensor, nn

from jobs.problems import ProblemError
from worker.graphs.build import build
from worker.graphs.layers import layers_of_graph
from worker.graphs.model import GraphModel
from worker.graphs.network import network
from worker.graphs.schema import Graph
from worker.sandbox.exported.program import ExportedProgram

pytestmark = [
    pytest.mark.usefixtures("seeded"),
    pytest.mark.filterwarnings("ignore"),  # torch's own, while it exports
]


def built(program: ExportedProgram) -> GraphModel:
    return build(program.graph, program.state | program.constants)


def oracle(data: bytes) -> nn.Module:
    """torch's module for a file of our own."""
    return torch.export.load(io.BytesIO(data)).module()


def outputs(model: nn.Module, inputs: Tensor) -> Tensor:
    torch.manual_seed(1)
    return model(inputs.clone())


@pytest.mark.parametrize("any_batch", [True, False], ids=["any", "fixed"])
@pytest.mark.parametrize("kind", KINDS)
def test_outputs_are_those_of_the_exported_program(kind: str, any_batch: bool):
    model = KINDS[kind].model().eval()
    data = exported(model, KINDS[kind].inputs(4), any_batch=any_batch)
    found = built(seen(data)).eval()

    assert list(found.state_dict()) == list(model.state_dict())
    for count in (4, 7) if any_batch else (4,):
        inputs = KINDS[kind].inputs(count)
        assert torch.equal(found(inputs), oracle(data)(inputs))


@pytest.mark.parametrize("kind", ["lenet", "residual", "recurrent"])
def test_training_is_that_of_a_program_exported_in_training_mode(kind: str):
    model, inputs = KINDS[kind].model().train(), KINDS[kind].inputs(6)
    data = exported(model, KINDS[kind].inputs(4))
    found, expected = built(seen(data)).train(), oracle(data)

    assert torch.equal(outputs(found, inputs), outputs(expected, inputs))
    for key, tensor in expected.state_dict().items():
        assert torch.equal(found.state_dict()[key], tensor), key


@pytest.mark.parametrize("kind", ["lenet", "recurrent"])
def test_a_program_exported_in_evaluation_mode_is_trained_as_its_model_is(kind: str):
    model, inputs = KINDS[kind].model(), KINDS[kind].inputs(6)
    found = built(seen(exported(model.eval(), KINDS[kind].inputs(4))))
    assert torch.equal(outputs(found.train(), inputs), outputs(model.train(), inputs))
    for key, tensor in model.state_dict().items():
        assert torch.equal(found.state_dict()[key], tensor), key
    assert torch.equal(outputs(found.eval(), inputs), outputs(model.eval(), inputs))


def test_a_norm_that_was_frozen_while_others_were_trained_stays_frozen():
    model = Residual().train()
    model.norm.eval()
    drop = nn.Sequential(model, nn.Dropout(0.5)).train()
    model.norm.eval()
    found = built(seen(exported(drop, images(4)))).train()
    before = found.get_submodule("0.norm").running_mean.clone()
    found(images(6))
    assert torch.equal(found.get_submodule("0.norm").running_mean, before)


def test_batches_of_other_sizes_are_cut_and_filled_up():
    model = LeNet().eval()
    found = built(seen(exported(model, images(4), any_batch=False))).eval()
    inputs = images(11)
    torch.testing.assert_close(found(inputs), model(inputs))
    assert found(inputs[:1]).shape == (1, 10)


def test_inputs_stay_as_they_are():
    model = nn.Sequential(nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(64, 10)).eval()
    found, inputs = built(seen(exported(model, images(4)))).eval(), images(4) - 0.5
    before = inputs.clone()
    assert torch.equal(found(inputs), model(inputs.clone()))
    assert torch.equal(inputs, before)


def test_tensors_that_are_no_part_of_the_state_are_kept_apart():
    program = seen(exported(Transformer().eval(), KINDS["transformer"].inputs(4)))
    assert program.constants.keys() == {"mask"}
    assert "mask" not in built(program).state_dict()


def test_tied_weights_are_one_parameter():
    model = Transformer()
    model.fc = nn.Linear(16, 20, bias=False)
    model.fc.weight = model.embed.weight
    program = seen(exported(model.eval(), KINDS["transformer"].inputs(4)))
    weights = [program.state[key] for key in ("embed.weight", "fc.weight")]
    assert weights[0].data_ptr() == weights[1].data_ptr()
    tied = {**program.state, "fc.weight": program.state["embed.weight"], **program.constants}
    found = build(program.graph, tied)
    assert found.get_parameter("fc.weight") is found.get_parameter("embed.weight")


def test_layers_are_of_the_kinds_of_their_operators():
    kinds = {}
    for kind in ("recurrent", "transformer"):
        program = seen(exported(KINDS[kind].model().eval(), KINDS[kind].inputs(4)))
        kinds |= {layer.name: layer.kind for layer in layers_of_graph(program.graph, program.state)}
    assert {kind for name, kind in kinds.items() if name.startswith("rnn.weight_")} == {"recurrent"}
    assert kinds["embed"] == "embedding"
    assert kinds["encoder.layers.0.self_attn.in_proj_weight"] == kinds["query"] == kinds["fc"] == "linear"
    assert kinds["places"] == "parameter"


def test_copies_share_nothing():
    found = built(seen(exported(LeNet().eval(), images(4)))).eval()
    other, inputs = copy.deepcopy(found), images(3)
    expected = found(inputs)
    with torch.no_grad():
        other.get_parameter("fc.weight").zero_()
    assert torch.equal(found(inputs), expected)
    assert not torch.equal(other(inputs), expected)


@pytest.mark.parametrize("decomposed", [False, True])
def test_decomposed_programs_run_too(decomposed: bool):
    model = LeNet().eval()
    program = torch.export.export(model, (images(4),), dynamic_shapes=({0: torch.export.Dim("batch")},))
    file = io.BytesIO()
    torch.export.save(program.run_decompositions() if decomposed else program, file)
    found, inputs = built(seen(file.getvalue())).eval(), images(5)
    torch.testing.assert_close(found(inputs), model(inputs))


def test_what_a_graph_takes_and_returns_is_read_off_it():
    program = seen(exported(LeNet().eval(), images(4)))
    found = network(program.graph, program.state, (8, 8))
    assert (found.input_shape, found.classes, found.numbers, found.caveats) == ((1, 8, 8), 10, None, ())
    words = seen(exported(Transformer().eval(), KINDS["transformer"].inputs(4), any_batch=False))
    found = network(words.graph, words.state | words.constants, (12,))
    assert found.numbers == range(20)
    assert [caveat["code"] for caveat in found.caveats] == ["graph_fixed_batch"]


class Masked(nn.Module):
    """Images of any size; an infinite number, and sizes among the arguments."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 5)
        self.fc = nn.Linear(4, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x).flatten(2)
        shares = x.masked_fill(x < x.mean(), float("-inf")).softmax(-1)
        return self.fc((torch.ones(x.shape[0], 1, x.shape[2]) * shares * x).sum(-1))


def test_a_graph_is_read_as_it_was_written():
    model, dim = Masked().eval(), torch.export.Dim
    shapes = ({0: dim("batch"), 2: dim("height", min=6), 3: dim("width", min=6)},)
    file = io.BytesIO()
    torch.export.save(torch.export.export(model, (torch.rand(3, 1, 8, 9),), dynamic_shapes=shapes), file)
    program = seen(file.getvalue())
    again = Graph.model_validate_json(program.graph.model_dump_json())
    assert again == program.graph
    found = network(again, program.state, (1, 20, 6)).model.eval()
    inputs = torch.rand(2, 1, 20, 6)
    assert torch.equal(found(inputs), model(inputs))
    with pytest.raises(ProblemError, match="6 or more"):
        network(again, program.state, (1, 20, 4))
