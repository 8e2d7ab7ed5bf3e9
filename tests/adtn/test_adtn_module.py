import pytest
import torch
from torch import nn
from torch.nn.utils import parametrize

from adtn.arrangements import brick_wall
from adtn.contraction import contract
from adtn.encoding import encode
from adtn.errors import ShapeError
from adtn.module import ADTN
from adtn.start import orthogonal_gates
from adtn.structure import Structure


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_decoded_weight_is_the_first_entries_of_the_contraction() -> None:
    adtn = ADTN((5, 7), brick_wall(6), generator=seeded())
    weight = adtn()
    assert weight.shape == (5, 7)
    assert torch.equal(weight.flatten(), contract(adtn.gates, adtn.structure)[:35])


@pytest.mark.parametrize(
    ("dtype", "gates"),
    [
        (torch.float16, torch.float32),
        (torch.bfloat16, torch.float32),
        (torch.float32, torch.float32),
        (torch.float64, torch.float64),
    ],
)
def test_weight_has_its_dtype_and_gates_are_never_coarser_than_float32(dtype: torch.dtype, gates: torch.dtype) -> None:
    adtn = ADTN((4, 4), brick_wall(4), dtype, seeded())
    assert (adtn().dtype, adtn.gates.dtype) == (dtype, gates)
    adtn().sum().backward()
    assert adtn.gates.grad is not None


def test_a_model_cast_to_half_and_back_keeps_its_gates() -> None:
    adtn = ADTN((4, 4), brick_wall(4), generator=seeded())
    before = adtn.gates.detach().clone()
    assert adtn.half()().dtype == torch.float16
    assert adtn.float()().dtype == torch.float32
    assert torch.equal(adtn.gates, before)
    assert adtn.double()().dtype == torch.float64


def test_one_parameter_holds_every_number() -> None:
    adtn = ADTN((120, 400), brick_wall(16))
    assert {name: tuple(p.shape) for name, p in adtn.named_parameters()} == {"gates": (384,)}
    assert list(adtn.state_dict()) == ["gates"]


def test_same_generator_seed_gives_the_same_start() -> None:
    first, second, other = (ADTN((4, 4), brick_wall(4), generator=seeded(s)).gates for s in (1, 1, 2))
    assert torch.equal(first, second)
    assert not torch.equal(first, other)


def test_given_gates_are_copied_and_none_are_drawn() -> None:
    given = torch.arange(24, dtype=torch.float64)
    state = torch.get_rng_state()
    adtn = ADTN((4, 4), brick_wall(4, 1), gates=given)
    assert torch.equal(torch.get_rng_state(), state)
    assert adtn.gates.dtype == torch.float32
    assert adtn.gates.tolist() == given.tolist()
    same = ADTN((4, 4), brick_wall(4, 1), gates=adtn.gates)
    with torch.no_grad():
        same.gates.zero_()
    assert adtn.gates.tolist() == given.tolist()


def test_start_gates_are_orthogonal_so_that_the_contraction_has_norm_one() -> None:
    structure = Structure((2, 3, 2, 4), (((0, 2), (2, 4), (1, 3)),) * 4, "none")
    gates = orthogonal_gates(structure, torch.float64, seeded())
    torch.testing.assert_close(contract(gates, structure).norm(), torch.tensor(1.0, dtype=torch.float64))


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ShapeError, match=r"gates: expected shape \(24,\), got \(4, 6\)"):
        ADTN((4, 4), brick_wall(4, 1), gates=torch.zeros(4, 6))
    with pytest.raises(ShapeError, match=r"\(5, 7\) has 35 entries.*the structure holds 32"):
        ADTN((5, 7), brick_wall(5))
    with pytest.raises(ShapeError, match=r"torch\.int64"):
        ADTN((5, 7), brick_wall(6), torch.int64)
    with pytest.raises(ShapeError, match=r"expected a weight of shape \(5, 7\), got \(7, 5\)"):
        ADTN((5, 7), brick_wall(6)).right_inverse(torch.zeros(7, 5))


def test_it_registers_as_a_parametrization_by_hand() -> None:
    layer = nn.Linear(7, 5)
    adtn = ADTN((5, 7), brick_wall(6), generator=seeded())
    parametrize.register_parametrization(layer, "weight", adtn)
    assert torch.equal(layer.weight, adtn())
    assert list(layer.state_dict()) == ["bias", "parametrizations.weight.0.gates"]


def test_it_prints_its_shape_and_count() -> None:
    assert "shape=(5, 7), sites=6, depth=2, gate_sites=2, activation='relu', parameters=124" in repr(
        ADTN((5, 7), brick_wall(6))
    )


def test_autocast_does_not_coarsen_the_contraction() -> None:
    adtn = ADTN((16, 16), brick_wall(8), generator=seeded())
    expected = adtn()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(adtn(), expected)


@pytest.mark.filterwarnings("ignore:Dynamo detected a call to a `functools.lru_cache`")
def test_an_encoded_model_can_be_compiled_and_exported() -> None:
    model = nn.Sequential(nn.Linear(20, 30), nn.ReLU(), nn.Linear(30, 5))
    encode(model, "0.weight", ADTN((30, 20), brick_wall(10), generator=torch.Generator().manual_seed(0)))
    inputs = torch.randn(4, 20, generator=torch.Generator().manual_seed(1))
    expected = model(inputs)
    gates = model.get_parameter("0.parametrizations.weight.0.gates")
    (expected_gradient,) = torch.autograd.grad(expected.sum(), gates)
    compiled = torch.compile(model, backend="aot_eager")(inputs)
    torch.testing.assert_close(compiled, expected)
    torch.testing.assert_close(torch.autograd.grad(compiled.sum(), gates)[0], expected_gradient)
    exported = torch.export.export(model.eval(), (inputs,)).module()
    torch.testing.assert_close(exported(inputs), expected)


def test_padding_that_no_reader_takes_is_refused_at_once() -> None:
    """Not when it is saved, after it was trained."""
    ADTN((4, 4), brick_wall(8))
    with pytest.raises(ShapeError, match="16 entries: expected a structure of at most 16 times as many, got 512"):
        ADTN((4, 4), brick_wall(9))
