import math
from dataclasses import replace

import pytest
import torch
from support.contractions import Contractions

from adtn import fitting
from adtn.arrangements import brick_wall
from adtn.contraction import contract
from adtn.errors import ShapeError, TrainingDiverged
from adtn.fitting import LONGEST_EXACT_ROW, RANK, Distance, FitOptions, FitTask, fit, fit_each, relative_error
from adtn.module import ADTN
from adtn.start import orthogonal_gates, scale_gates
from adtn.structure import Structure


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).float()


def test_a_weight_that_an_adtn_can_represent_is_found() -> None:
    structure = brick_wall(6, 1, activation="none")
    gates = orthogonal_gates(structure, torch.float32, torch.Generator().manual_seed(5))
    weight = 3 * contract(gates, structure).view(8, 8)
    adtn = fit(weight, structure, FitOptions(steps=500, learning_rate=0.05))
    assert adtn.relative_error is not None
    assert adtn.relative_error < 0.05
    # No other weight of this size is met as well: it has more degrees of freedom than the gates.
    assert fit(random(8, 8), structure, FitOptions(steps=500, learning_rate=0.05)).relative_error > 0.5


def test_relative_error_is_the_distance_to_the_decoded_weight() -> None:
    weight = random(12, 20)
    adtn = fit(weight, brick_wall(8))
    expected = torch.linalg.norm(weight.double() - adtn().detach().double()) / torch.linalg.norm(weight.double())
    assert adtn.relative_error == pytest.approx(float(expected), rel=1e-12)


def test_more_steps_give_a_smaller_error_and_the_best_scale() -> None:
    weight = random(12, 20)
    few, many = (fit(weight, brick_wall(8, 3), FitOptions(steps=n)) for n in (5, 200))
    assert many.relative_error < few.relative_error < 1
    decoded = many().detach()
    assert float((decoded * weight).sum() / decoded.square().sum()) == pytest.approx(1, abs=1e-4)


def test_the_seed_decides_the_gates_and_the_global_generator_is_left_alone() -> None:
    weight = random(12, 20)
    state = torch.get_rng_state()
    first, again, other = (fit(weight, brick_wall(8), FitOptions(20, seed=s)).gates for s in (3, 3, 4))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_the_decoded_weight_has_the_dtype_of_the_dense_one(dtype: torch.dtype) -> None:
    assert fit(random(8, 8).to(dtype), brick_wall(6), FitOptions(steps=3))().dtype == dtype


def test_a_weight_of_zeros_is_met_exactly() -> None:
    adtn = fit(torch.zeros(8, 8), brick_wall(6))
    assert not adtn().any()
    assert adtn.relative_error == 0


def test_relative_error_to_zeros_is_infinite() -> None:
    adtn = ADTN((8, 8), brick_wall(6), generator=torch.Generator().manual_seed(0))
    assert relative_error(adtn, torch.zeros(8, 8)) == math.inf


@pytest.mark.parametrize("seed", range(12))
def test_a_start_that_relu_would_kill_is_drawn_again(seed: int) -> None:
    # One site, four TN layers: with most seeds every entry of some TN layer is negative at first.
    structure = Structure((2,), (((0, 1),),) * 4)
    adtn = fit(torch.tensor([1.0, 0.5]), structure, FitOptions(steps=20, seed=seed))
    assert adtn().any()


@pytest.mark.parametrize("factor", [0.01, 1.0, 30.0, -2.0, 0.0])
def test_scaled_gates_scale_the_contraction(factor: float) -> None:
    structure = brick_wall(7, 3)
    gates = orthogonal_gates(structure, torch.float64, torch.Generator().manual_seed(0))
    scaled = contract(scale_gates(gates, structure, factor), structure)
    torch.testing.assert_close(scaled, factor * contract(gates, structure), rtol=1e-10, atol=1e-12)


def test_with_the_moment_of_the_inputs_the_error_of_the_outputs_is_smaller() -> None:
    weight = random(16, 32)
    inputs = random(500, 32, seed=1) * torch.linspace(0, 2, 32) ** 2
    moment = inputs.T @ inputs / 500

    def output_error(adtn: ADTN) -> float:
        return float((inputs @ (adtn().detach() - weight).T).norm() / (inputs @ weight.T).norm())

    plain, weighted = fit(weight, brick_wall(9)), fit(weight, brick_wall(9), input_moment=moment)
    assert output_error(weighted) < 0.9 * output_error(plain)
    assert plain.relative_error < weighted.relative_error


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_weight_far_from_one_is_fitted_as_the_nearest_ordinary_one(dtype: torch.dtype) -> None:
    weight = random(12, 20).to(dtype)
    weight *= 4 / weight.abs().max()
    largest = 55 if dtype == torch.float32 else 500
    for ordinary, far in ((-8, -15), (-8, -largest), (2, 12), (2, largest)):
        expected, found = (fit(4.0**size * weight, brick_wall(8), FitOptions(50)) for size in (ordinary, far))
        assert expected.relative_error is not None
        assert expected.relative_error < 0.9
        assert found.relative_error == pytest.approx(expected.relative_error, rel=1e-3)
        torch.testing.assert_close(found() / 4.0**far, expected() / 4.0**ordinary, rtol=1e-3, atol=1e-4)


def test_the_smallest_numbers_that_there_are_can_be_fitted() -> None:
    weight = random(12, 20)
    usual, found = (fit(scale * weight, brick_wall(8), FitOptions(50)) for scale in (1.0, 2.0**-139))
    assert found.relative_error == pytest.approx(usual.relative_error, rel=0.1)


@pytest.mark.parametrize("row", [20, LONGEST_EXACT_ROW + 76])
@pytest.mark.parametrize("factor", [2.0**-100, 2.0**100])
def test_the_size_of_the_moment_changes_nothing(row: int, factor: float) -> None:
    weight, samples = random(4, row), random(50, row, seed=1)
    moment = samples.T @ samples / 50
    structure = brick_wall(math.ceil(math.log2(4 * row)), 1)
    plain, found = (fit(weight, structure, FitOptions(10), input_moment=scale * moment) for scale in (1.0, factor))
    torch.testing.assert_close(found(), plain(), rtol=1e-3, atol=1e-4)


def test_the_moment_one_is_the_plain_norm() -> None:
    weight = random(8, 8)
    plain, same = fit(weight, brick_wall(6)), fit(weight, brick_wall(6), input_moment=torch.eye(8))
    assert same.relative_error == pytest.approx(plain.relative_error, rel=1e-3)


def test_a_moment_of_zeros_is_ignored() -> None:
    weight = random(8, 8)
    zero = fit(weight, brick_wall(6), input_moment=torch.zeros(8, 8))
    assert zero.relative_error == fit(weight, brick_wall(6)).relative_error


def test_a_long_rows_moment_keeps_its_leading_directions_and_its_trace() -> None:
    row = LONGEST_EXACT_ROW + 76
    weight, other = random(4, row).double(), random(4, row, seed=1).double()
    directions = torch.linalg.qr(random(row, 100, seed=2).double()).Q
    sizes = torch.logspace(2, 0, 100, dtype=torch.float64)
    assert len(sizes) < RANK
    moment = directions * sizes @ directions.T + 0.01 * torch.eye(row, dtype=torch.float64)
    found, squared = Distance(weight, moment), (weight @ moment * weight).sum()
    assert found.norm == pytest.approx(float(squared), rel=1e-6)
    overlap = (other @ moment * weight).sum()
    expected = 1 - overlap**2 / (squared * (other @ moment * other).sum())
    assert float(found.of(other)) == pytest.approx(float(expected), rel=1e-6)
    assert found.best_scale(other) == pytest.approx(float(overlap / (other @ moment * other).sum()), rel=1e-6)
    assert torch.equal(Distance(weight, moment).weighted, found.weighted)


def test_what_is_left_of_a_long_rows_moment_counts_as_the_same_in_all_directions() -> None:
    row = LONGEST_EXACT_ROW + 76
    samples = random(3 * row, row) * torch.logspace(0, -2, row)
    moment = samples.T @ samples / len(samples)
    found = Distance(random(4, row), moment)
    assert found.factor is not None
    assert float(found.factor.square().sum() + row * found.rest) == pytest.approx(float(moment.trace()), rel=1e-5)
    exact = torch.linalg.eigvalsh(moment.double()).flip(0)[:20].sqrt()
    leading = (found.factor.square().sum(0) + found.rest).sort(descending=True).values[:20].double().sqrt()
    torch.testing.assert_close(leading, exact, rtol=2e-2, atol=0)


def test_progress_is_reported_and_may_stop_the_fit() -> None:
    seen: list[tuple[int, int, float]] = []
    fit(random(8, 8), brick_wall(6), FitOptions(steps=5), on_step=lambda *step: seen.append(step))
    assert [(step, steps) for step, steps, _ in seen] == [(n, 5) for n in range(1, 6)]
    assert all(0 < error <= 1 for _, _, error in seen)

    def stop(step: int, _steps: int, _error: float) -> None:
        if step == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(random(8, 8), brick_wall(6), on_step=stop)


def test_what_cannot_be_fitted_is_refused() -> None:
    weight = random(8, 8)
    weight[0, :3] = torch.tensor([math.nan, math.inf, 0])
    with pytest.raises(ShapeError, match="expected finite values, got 2 that are NaN or infinite"):
        fit(weight, brick_wall(6))
    with pytest.raises(ShapeError, match=r"input_moment: expected shape \(8, 8\), got \(4, 4\)"):
        fit(random(8, 8), brick_wall(6), input_moment=torch.eye(4))
    with pytest.raises(
        ShapeError, match=r"weight: expected two or more dimensions beside an input_moment, got \(64,\)"
    ):
        fit(random(64), brick_wall(6), input_moment=torch.eye(64))
    with pytest.raises(ShapeError, match="64 entries"):
        fit(random(8, 8), brick_wall(5))


@torch.inference_mode()
def test_a_fit_in_inference_mode_is_the_same() -> None:
    weight, moment = random(8, 8), torch.diag(torch.arange(8.0))
    found = fit(weight, brick_wall(6), FitOptions(5), input_moment=moment)
    with torch.inference_mode(False):
        expected = fit(random(8, 8), brick_wall(6), FitOptions(5), input_moment=torch.diag(torch.arange(8.0)))
    assert torch.equal(found.gates, expected.gates)
    assert not found.gates.is_inference()
    assert torch.is_inference_mode_enabled()


def test_a_fit_that_diverges_says_so() -> None:
    with pytest.raises(TrainingDiverged, match="smaller learning_rate"):
        fit(random(8, 8), brick_wall(6, 4, activation="none"), FitOptions(steps=50, learning_rate=1e30))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_equal_structures_are_fitted_as_one_batch_to_what_each_is_alone(
    dtype: torch.dtype, contractions: Contractions
) -> None:
    weights = [random(*shape, seed=i).to(dtype) for i, shape in enumerate([(12, 20), (12, 20), (20, 12), (12, 20)])]
    moments = [None, torch.eye(20).to(dtype), None, torch.diag(torch.arange(20.0)).to(dtype)]
    structure, steps = brick_wall(8), 30
    tasks = [
        FitTask(weight, structure, FitOptions(steps, seed=i), moment)
        for i, (weight, moment) in enumerate(zip(weights, moments, strict=True))
    ]
    seen: list[tuple[int, int]] = []
    together = dict(fit_each(tasks, lambda number, step, _steps, _error: seen.append((number, step))))
    assert contractions.backward == steps
    assert seen == [(number, step) for step in range(1, steps + 1) for number in range(4)]
    exact = 1e-5 if dtype == torch.float32 else 1e-12
    for i, task in enumerate(tasks):
        alone = fit(task.weight, structure, task.options, input_moment=task.input_moment)
        torch.testing.assert_close(together[i].gates, alone.gates, rtol=exact, atol=exact)
        assert together[i].relative_error == pytest.approx(alone.relative_error, rel=exact)


def test_what_differs_in_structure_steps_or_dtype_is_fitted_apart_and_in_order(contractions: Contractions) -> None:
    weight = random(8, 8)
    tasks = [
        FitTask(weight, brick_wall(6), FitOptions(3)),
        FitTask(weight, brick_wall(6, 3), FitOptions(3)),
        FitTask(weight, brick_wall(6), FitOptions(4)),
        FitTask(weight.double(), brick_wall(6), FitOptions(3)),
        FitTask(weight, brick_wall(6), FitOptions(3, seed=7)),
    ]
    assert [number for number, _ in fit_each(tasks)] == [0, 4, 1, 2, 3]
    assert contractions.backward == 3 + 3 + 4 + 3


def test_a_weight_of_zeros_needs_no_steps_beside_others() -> None:
    tasks = [FitTask(weight, brick_wall(6), FitOptions(5)) for weight in (torch.zeros(8, 8), random(8, 8))]
    zeros, other = (fitted for _, fitted in fit_each(tasks))
    assert not zeros().any()
    assert zeros.relative_error == 0
    assert torch.equal(other.gates, fit(tasks[1].weight, brick_wall(6), FitOptions(5)).gates)


def test_errors_of_a_batch_name_the_weight() -> None:
    good, bad = (FitTask(random(8, 8), brick_wall(6), FitOptions(30, 1e30), name=name) for name in ("good", "bad"))
    with pytest.raises(TrainingDiverged, match=r"^good: fit: the error is "):
        dict(fit_each([good, bad]))
    with pytest.raises(ShapeError, match=r"^bad: input_moment: expected shape"):
        dict(fit_each([good, replace(bad, input_moment=torch.eye(3))]))


def test_an_error_that_rounds_below_nothing_is_told_as_nothing() -> None:
    structure, told = brick_wall(7, 1), []
    direction = torch.rand(64, generator=torch.Generator().manual_seed(9))
    for seed in range(6):  # in the norm of a single direction every weight can be met
        weight = random(2, 64, seed=seed)
        moment = torch.outer(direction, direction)
        fit(weight, structure, FitOptions(200, seed=seed), lambda _step, _steps, error: told.append(error), moment)
    assert min(told) == 0
    assert max(told) < 2


def test_large_weights_are_fitted_one_by_one(contractions: Contractions, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fitting, "BATCH_ENTRIES", 100)
    tasks = [FitTask(random(8, 8, seed=i), brick_wall(6), FitOptions(3)) for i in range(3)]
    assert [number for number, _ in fit_each(tasks)] == [0, 1, 2]
    assert contractions.backward == 3 * 3
