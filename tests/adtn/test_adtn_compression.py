import pytest
import torch
from torch import nn

from adtn import FitOptions, ShapeError, brick_wall, compress, encoded, layers_of, make_plan


def small_model() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(40, 40), nn.ReLU(), nn.Linear(40, 40), nn.ReLU(), nn.Linear(40, 4))


def test_every_layer_of_a_plan_is_encoded_and_reported() -> None:
    model = small_model()
    weights = {key: value.clone() for key, value in model.state_dict().items()}
    plan = make_plan(layers_of(model), ["0", "2"])
    seen: list[str] = []
    done = compress(model, plan, FitOptions(steps=3), lambda key, step, steps, error: seen.append(key))
    assert [(item.key, item.shape, item.original, item.parameters) for item in done] == [
        ("0.weight", (40, 40), 1600, 252),
        ("2.weight", (40, 40), 1600, 252),
    ]
    assert seen == ["0.weight", "2.weight"] * 3
    for item in done:
        decoded = encoded(model)[item.key]().detach()
        error = float((decoded - weights[item.key]).norm() / weights[item.key].norm())
        assert item.relative_error == pytest.approx(error, rel=1e-5)


def test_structures_by_key_are_a_plan_too() -> None:
    model = small_model()
    compress(model, {"2.weight": brick_wall(11, 1)}, FitOptions(steps=1))
    assert list(encoded(model)) == ["2.weight"]


def test_same_seed_gives_the_same_gates_and_layers_start_differently() -> None:
    first, second = small_model(), small_model()
    structures = {"0.weight": brick_wall(11), "2.weight": brick_wall(11)}
    for model in (first, second):
        compress(model, structures, FitOptions(steps=0))
    gates = [[found.gates for found in encoded(model).values()] for model in (first, second)]
    assert all(torch.equal(a, b) for a, b in zip(*gates, strict=True))
    assert not torch.allclose(gates[0][0][:10], gates[0][1][:10])


def test_what_does_not_fit_names_the_layer() -> None:
    with pytest.raises(ShapeError, match=r"9\.weight"):
        compress(small_model(), {"9.weight": brick_wall(11)})
    with pytest.raises(ShapeError, match=r"2\.weight: .*1600 entries"):
        compress(small_model(), {"2.weight": brick_wall(10)})


def test_a_model_of_which_one_layer_cannot_be_fitted_stays_as_it_is() -> None:
    model = small_model()
    with torch.no_grad():
        model[2].weight[3, 4] = torch.nan
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with pytest.raises(ShapeError, match=r"2\.weight: weight: expected finite values, got 1 that are NaN"):
        compress(model, {"0.weight": brick_wall(11), "2.weight": brick_wall(11)}, FitOptions(steps=1))
    torch.testing.assert_close(model.state_dict(), before, rtol=0, atol=0, equal_nan=True)


def test_what_cannot_be_encoded_together_is_refused_before_anything_is_fitted() -> None:
    def never(*_: object) -> None:
        raise AssertionError("nothing is to be fitted")

    tied = small_model()
    tied[2].weight = tied[0].weight
    mixed = small_model()
    mixed[2].double()
    alone, group = brick_wall(11), brick_wall(12)
    for model, plan, message in (
        (tied, {"0.weight": alone, "2.weight": alone}, r"2\.weight: expected each parameter once, got it as 0\.weight"),
        (small_model(), {"0.weight": alone, ("0.weight", "2.weight"): group}, r"0\.weight: expected each parameter"),
        (small_model(), {"4.weight": brick_wall(8), ("0.weight", "0.weight"): group}, r"0\.weight: expected each"),
        (mixed, {("0.weight", "2.weight"): group}, r"0\.weight \+ 2\.weight: expected weights of one dtype"),
    ):
        with pytest.raises(ShapeError, match=message):
            compress(model, plan, FitOptions(steps=1), never)
        assert not encoded(model)
