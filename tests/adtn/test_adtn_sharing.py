import copy
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import adtn
from adtn.encoding import encode_together, encoded, encoded_places
from adtn.errors import PlanError, ShapeError
from adtn.layer import Layer
from adtn.plan import Plan, Target, make_plan

KEYS = ["0.weight", "2.weight"]
SHAPES = [(12, 8), (6, 12)]
ENTRIES = 12 * 8 + 6 * 12


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 12), nn.ReLU(), nn.Linear(12, 6))


def joint(entries: int = ENTRIES, dtype: torch.dtype = torch.float32) -> adtn.ADTN:
    return adtn.ADTN((entries,), adtn.brick_wall(8, 2, 2, "relu"), dtype, torch.Generator().manual_seed(1))


def together(model: nn.Module) -> adtn.ADTN:
    found = joint()
    encode_together(model, KEYS, found)
    return found


def parts_of(flat: Tensor) -> list[Tensor]:
    """The weights, cut out of the joined entries by hand."""
    return [flat[: 12 * 8].view(12, 8), flat[12 * 8 : ENTRIES].view(6, 12)]


def test_each_weight_is_its_share_of_the_decoded_entries() -> None:
    model = network()
    found = together(model)
    first, second = parts_of(adtn.contract(found.gates, found.structure).detach())
    torch.testing.assert_close(model[0].weight, first, rtol=0, atol=0)
    torch.testing.assert_close(model[2].weight, second, rtol=0, atol=0)
    assert [(place.key, place.adtn is found) for place in encoded_places(model)] == [(key, True) for key in KEYS]
    assert encoded(model) == {KEYS[0]: found}
    assert sum(p.numel() for p in model.parameters()) == found.structure.parameters + 12 + 6


@pytest.mark.parametrize("once", [False, True])
def test_gates_get_the_gradients_of_all_weights_that_they_hold(once: bool) -> None:
    model, inputs = network(), torch.randn(5, 8, generator=torch.Generator().manual_seed(2))
    found = together(model)
    gates = found.gates.detach().clone().requires_grad_()
    first, second = parts_of(adtn.contract(gates, found.structure))
    expected = torch.relu(inputs @ first.T + model[0].bias) @ second.T + model[2].bias
    (grad,) = torch.autograd.grad(expected.square().sum(), gates)
    if once:
        with adtn.decoded_once(model):
            model(inputs).square().sum().backward()
    else:
        model(inputs).square().sum().backward()
    torch.testing.assert_close(found.gates.grad, grad)


def test_a_copy_has_one_adtn_of_its_own() -> None:
    model = network()
    found = together(model)
    other = copy.deepcopy(model)
    (copied,) = encoded(other).values()
    assert copied is not found
    with torch.no_grad():
        copied.gates.mul_(2)
    assert not torch.equal(other[2].weight, model[2].weight)


def test_assigning_to_a_share_is_refused() -> None:
    model = network()
    together(model)
    with pytest.raises(ShapeError, match="cannot be assigned to"):
        model[0].weight = torch.zeros(12, 8)


@pytest.mark.parametrize(
    ("keys", "found", "message"),
    [
        (KEYS, joint(100), r"expected an ADTN of shape \(168,\), got \(100,\)"),
        (KEYS, joint(dtype=torch.float64), "torch.float64"),
        (["0.weight", "0.weight"], joint(2 * 96), "expected each parameter once"),
        (["0.weight", "9.weight"], joint(), "the model has no module"),
    ],
)
def test_what_does_not_fit_is_refused_and_nothing_is_encoded(keys: list[str], found: adtn.ADTN, message: str) -> None:
    model = network()
    with pytest.raises(ShapeError, match=message):
        encode_together(model, keys, found)
    assert not encoded(model)


@pytest.mark.parametrize("bits", [None, 4])
def test_a_file_holds_the_gates_once_and_decodes_to_every_weight(tmp_path: Path, bits: int | None) -> None:
    model = network()
    found = together(model)
    if bits is not None:
        found.quantise(bits)
    path = tmp_path / "model.adtn.safetensors"
    adtn.save(model, path)
    decoded = adtn.decode(path)
    assert list(map(tuple, (decoded[key].shape for key in KEYS))) == SHAPES
    torch.testing.assert_close(decoded["0.weight"], model[0].weight.detach(), rtol=0, atol=0)
    torch.testing.assert_close(decoded["2.weight"], model[2].weight.detach(), rtol=0, atol=0)
    loaded = adtn.load(path, network())
    assert len(encoded(loaded)) == 1
    for key in KEYS:
        torch.testing.assert_close(loaded[int(key[0])].weight.detach(), decoded[key], rtol=0, atol=0)
    again = tmp_path / "again.adtn.safetensors"
    adtn.save(loaded, again)
    assert again.read_bytes() == path.read_bytes()


def test_weights_are_stored_in_the_order_in_which_they_are_held(tmp_path: Path) -> None:
    model = network()
    encode_together(model, KEYS[::-1], joint())
    adtn.save(model, tmp_path / "file")
    decoded = adtn.decode(tmp_path / "file")
    torch.testing.assert_close(decoded["2.weight"], model[2].weight.detach(), rtol=0, atol=0)
    torch.testing.assert_close(decoded["0.weight"], model[0].weight.detach(), rtol=0, atol=0)


class Tied(nn.Module):
    """An output layer with the weight of the embedding, and a layer between them."""

    def __init__(self, tied: bool = True) -> None:
        super().__init__()
        self.tokens = nn.Embedding(20, 8)
        self.middle = nn.Linear(8, 8)
        self.head = nn.Linear(8, 20, bias=False)
        if tied:
            self.head.weight = self.tokens.weight


@pytest.mark.parametrize("tied", [True, False])
def test_a_tied_weight_of_a_group_stays_tied(tmp_path: Path, tied: bool) -> None:
    model = Tied()
    encode_together(model, ["tokens.weight", "middle.weight"], joint(20 * 8 + 8 * 8))
    adtn.save(model, tmp_path / "file")
    decoded = adtn.decode(tmp_path / "file")
    assert decoded["head.weight"] is decoded["tokens.weight"]
    loaded = adtn.load(tmp_path / "file", Tied(tied))
    torch.testing.assert_close(loaded.head.weight, model.tokens.weight, rtol=0, atol=0)
    assert len(encoded(loaded)) == 1


def layer(name: str, *shape: int) -> Layer:
    return Layer(name, f"{name}.weight", "linear", shape)


LAYERS = (layer("a", 64, 64), layer("b", 32, 64), layer("c", 64, 32), layer("d", 32, 32))


def test_a_group_is_planned_as_one_layer_at_the_place_of_its_first() -> None:
    plan = make_plan(LAYERS, ["d", ["c", "a"], "b"], target=Target(parameters=600))
    assert [entry.layer.name for entry in plan.entries] == ["a + c", "b", "d"]
    group = plan.entries[0].layer
    assert (group.kind, group.shape, group.entries) == ("group", (64 * 64 + 64 * 32,), 64 * 64 + 64 * 32)
    assert [weight.key for weight in group.weights] == ["a.weight", "c.weight"]
    assert plan.parameters <= 600
    assert Plan.from_json(plan.to_json()) == plan


def test_a_pattern_beside_a_group_means_the_other_layers() -> None:
    plan = make_plan(LAYERS, ["*", ["b", "c"]])
    assert [entry.layer.name for entry in plan.entries] == ["a", "b + c", "d"]
    everything = make_plan(LAYERS, [["*"]])
    assert [entry.layer.name for entry in everything.entries] == ["a + b + c + d"]


@pytest.mark.parametrize(
    ("names", "code", "message"),
    [
        ([["a"]], "group_invalid", "expected at least two layers in a group, got 'a' alone"),
        ([["a", "b"], ["b", "c"]], "group_invalid", "expected 'b' in one group, got it in 2"),
        ([["a", "e"]], "layer_not_found", "'e' matches no layer"),
    ],
)
def test_groups_that_cannot_be_are_refused(names: list[list[str]], code: str, message: str) -> None:
    with pytest.raises(PlanError, match=message) as raised:
        make_plan(LAYERS, names)
    assert raised.value.code == code


def test_a_model_is_compressed_by_a_plan_with_a_group() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 32))
    before = torch.cat([model[0].weight.detach().flatten(), model[2].weight.detach().flatten()])
    plan = make_plan(adtn.layers_of(model), [["0", "2"]])
    inputs = torch.rand(100, 64)
    bias = model[0].bias.detach().clone()
    (done,) = adtn.compress(model, plan, inputs=inputs)
    assert (done.key, done.shape) == ("0.weight + 2.weight", (64 * 64 + 32 * 64,))
    after = torch.cat([model[0].weight.detach().flatten(), model[2].weight.detach().flatten()])
    assert done.relative_error == pytest.approx(float((before - after).norm() / before.norm()), rel=1e-4)
    shift = (before[: 64 * 64] - after[: 64 * 64]).view(64, 64) @ inputs.mean(0)
    torch.testing.assert_close(model[0].bias.detach(), bias + shift, rtol=1e-4, atol=1e-5)
    assert len(encoded(model)) == 1


def test_weights_of_two_dtypes_cannot_be_joined() -> None:
    model = nn.Sequential(nn.Linear(64, 64), nn.Linear(64, 64).double())
    with pytest.raises(ShapeError, match=r"one dtype to join, got torch\.float32, torch\.float64"):
        adtn.compress(model, {("0.weight", "1.weight"): adtn.brick_wall(13)})
