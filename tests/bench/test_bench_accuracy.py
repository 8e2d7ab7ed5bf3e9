import copy
import dataclasses
import math
import shutil
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import adtn
from adtn.errors import TrainingDiverged
from adtn.moments import InputMoments
from bench.accuracy import problem as problems
from bench.accuracy.allocation import LEAST_USE, Unreachable
from bench.accuracy.digits import DIGITS
from bench.accuracy.factors import Factors, Form, GatesForm, total
from bench.accuracy.fitting import fit, place
from bench.accuracy.layers import as_matrix
from bench.accuracy.low_rank import LowRank
from bench.accuracy.methods import METHODS
from bench.accuracy.mnist import MNIST
from bench.accuracy.model import QuickLeNet5
from bench.accuracy.points import Point, front
from bench.accuracy.problem import Data, Part, baseline, keep_baseline
from bench.accuracy.problems import PROBLEMS
from bench.accuracy.ratios import bytes_needed, ratios_table
from bench.accuracy.results import Runs, fold
from bench.accuracy.run import result_name
from bench.accuracy.storage import COMMON, in_bits
from bench.accuracy.table import Spread, accuracy_table, bytes_table, choices_table, finals_table, spread
from bench.accuracy.task import Task
from bench.accuracy.training import BATCH, DENSE_RATE, Training, correct, fine_tune, outputs_of
from bench.accuracy.tt_matrix import TTMatrix
from bench.accuracy.tuning import LATER_SEED, RATES, Choice, Setting, choice, final_tasks, finals, forms_of, grid
from bench.accuracy.worker import check
from bench.lenet5_mnist import LeNet5
from bench.record import RESULTS

BUDGETS, SHAPES = MNIST.budgets, MNIST.shapes
TENSORLY = ("block_tt", "cp", "tucker")
RECIPES = [(method, recipe) for method, found in METHODS.items() for recipe in found.recipes]
COARSE = {"low_rank", "block_tt", "paper"}
"""Methods whose forms come in steps too large for every budget."""
SETTING = Setting(epochs=1, images=None, tuning_epochs=1)


def available(method: str) -> str:
    """The method, or a skipped test where its package is not installed."""
    if method in TENSORLY and find_spec("tltorch") is None:
        pytest.skip("tensorly-torch is not installed")
    return method


def start(form: Form, layer: str, seed: int = 0) -> tuple[Factors, Tensor, Tensor]:
    """Factors, the weight they were started from and the moment of the inputs."""
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(SHAPES[layer], generator=generator)
    rows = torch.randn(500, as_matrix(SHAPES[layer])[1], generator=generator)
    moment = rows.T @ rows / len(rows)
    return form.start(weight, moment, seed), weight, moment


@pytest.mark.parametrize(("method", "recipe"), RECIPES)
@pytest.mark.parametrize("budget", BUDGETS)
def test_forms_stay_within_the_budget_and_use_it(method: str, recipe: str, budget: int) -> None:
    try:
        forms = forms_of("mnist", available(method), recipe, budget)
    except Unreachable as error:
        pytest.skip(f"not reached: {error}")
    assert forms.keys() == SHAPES.keys()
    numbers = total(list(forms.values()))
    assert numbers <= budget
    if method not in COARSE:
        assert numbers >= LEAST_USE * budget


@pytest.mark.parametrize(("method", "recipe"), RECIPES)
def test_factors_hold_the_numbers_announced_and_decode_to_the_weights_shape(method: str, recipe: str) -> None:
    budget = 1000 if method in TENSORLY else 2500  # their decompositions take time
    for layer, form in forms_of("mnist", available(method), recipe, budget).items():
        factors, _, _ = start(form, layer)
        assert factors.numbers == form.numbers == sum(part.numel() for part in factors.parts())
        decoded = factors()
        assert decoded.shape == SHAPES[layer]
        decoded.square().sum().backward()
        assert all(parameter.grad is not None and parameter.grad.any() for parameter in factors.parameters())


@pytest.mark.parametrize(
    ("form", "row_parts"),
    [
        (TTMatrix((4, 5, 6), (8, 5, 10), (5, 6)), (1, 5, 6)),
        (TTMatrix((5, 6, 4), (2, 10, 20), (4, 10)), (1, 2, 2)),
    ],
)
def test_tt_matrix_is_the_einsum_of_its_cores(form: TTMatrix, row_parts: tuple[int, ...]) -> None:
    factors, _, _ = start(form, "fc1")
    bonds = (1, *form.bonds, 1)
    cores = []
    for k, (part, of_rows) in enumerate(zip(factors.parts(), row_parts, strict=True)):
        rows, columns, bond, after = form.rows[k], form.columns[k], bonds[k], bonds[k + 1]
        of_columns = bond // of_rows
        # The sites that hand the bond on are the slow parts of the core's own row and column.
        gate = part.view(of_rows, of_columns, rows // of_rows, columns // of_columns, after, bond)
        cores.append(gate.permute(5, 0, 2, 1, 3, 4).reshape(bond, rows, columns, after).double())
    expected = torch.einsum("xiaf,fjbg,gkcy->ijkabc", *cores).reshape(120, 400)
    torch.testing.assert_close(factors().double(), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("layer", SHAPES)
def test_low_rank_starts_at_the_optimum(layer: str) -> None:
    form = LowRank(SHAPES[layer], 3)
    factors, weight, moment = start(form, layer)
    root = torch.linalg.cholesky(moment.double() + 1e-9 * torch.eye(len(moment), dtype=torch.float64))
    outputs = weight.flatten(1).double() @ root
    least = torch.linalg.svdvals(outputs)[3:].square().sum()
    found = ((weight - factors().detach()).flatten(1).double() @ root).square().sum()
    torch.testing.assert_close(found, least, rtol=1e-4, atol=0)


@pytest.mark.parametrize("method", METHODS)
def test_a_fit_lowers_the_error_of_the_outputs_and_is_what_it_says(method: str) -> None:
    recipe = next(iter(METHODS[available(method)].recipes))
    form = forms_of("mnist", method, recipe, 1000)["conv2"]
    factors, weight, moment = start(form, "conv2")
    factors.scale(float(weight.norm() / factors().detach().norm()))

    def error(decoded: Tensor) -> float:
        away = (weight - decoded.detach()).flatten(1).double()
        flat = weight.flatten(1).double()
        return float((away @ moment.double() * away).sum() / (flat @ moment.double() * flat).sum())

    fitted = fit(form, weight, moment, seed=0)
    assert error(fitted.factors()) == pytest.approx(fitted.error, abs=1e-4)
    assert fitted.error < error(factors()) + 1e-6


@pytest.mark.parametrize("factor", [2.5, -0.5])
@pytest.mark.parametrize(
    "form",
    [
        LowRank((84, 120), 2),
        GatesForm(adtn.brick_wall(14)),
        GatesForm(adtn.Sum((adtn.staircase(14), adtn.brick_wall(14, 1)))),
    ],
    ids=["low rank", "network with ReLU", "sum"],
)
def test_scaled_factors_decode_to_the_scaled_weight(form: Form, factor: float) -> None:
    factors, _, _ = start(form, "fc2")
    before = factors().detach().clone()
    factors.scale(factor)
    torch.testing.assert_close(factors().detach(), factor * before)


@pytest.mark.parametrize("method", ["low_rank", *TENSORLY])
def test_balanced_factors_are_of_one_size_and_decode_to_the_same(method: str) -> None:
    form = forms_of("mnist", available(method), "default", 5000)["fc2"]
    factors, _, _ = start(form, "fc2")
    before = factors().detach().clone()
    factors.balance()
    sizes = [float(part.square().mean()) for part in factors.parts()]
    assert sizes == pytest.approx([sizes[0]] * len(sizes), rel=1e-3)
    torch.testing.assert_close(factors().detach(), before, rtol=1e-3, atol=1e-4)


def test_the_quick_model_is_the_same_function() -> None:
    plain, quick = LeNet5(), QuickLeNet5()
    quick.load_state_dict(plain.state_dict())
    images = torch.rand(8, 1, 28, 28)
    torch.testing.assert_close(quick(images), plain(images))


def test_a_placed_weight_keeps_the_mean_outputs() -> None:
    model = LeNet5()
    inputs = torch.rand(50, 400)
    expected = model.fc1(inputs).detach().mean(0)
    factors = LowRank((120, 400), 1).start(model.fc1.weight, torch.eye(400), 0)
    place(model, "fc1", factors, InputMoments(torch.eye(400), inputs.mean(0)))
    torch.testing.assert_close(model.fc1.weight, factors())
    torch.testing.assert_close(model.fc1(inputs).detach().mean(0), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "bytes_of", "largest_step"),
    [
        ("fp32", lambda numbers, parts: 4 * numbers, 0),
        ("fp16", lambda numbers, parts: 2 * numbers, 2**-11),
        ("int8", lambda numbers, parts: numbers + 2 * parts, 0.6 / 127),
    ],
)
def test_storage_counts_its_bytes_and_reads_back_nearly_the_same(
    name: str, bytes_of: Callable[[int, int], int], largest_step: float
) -> None:
    storage = next(storage for storage in COMMON if storage.name == name)
    factors, _, _ = start(GatesForm(adtn.staircase(14)), "fc2")
    before = [part.clone() for part in factors.parts()]
    assert storage.apply(factors) == bytes_of(factors.numbers, len(before))
    for part, trained in zip(factors.parts(), before, strict=True):
        assert (part - trained).abs().max() <= largest_step * trained.abs().max()
        if name == "int8":
            assert len(part.unique()) <= 255


def test_training_moves_factors_and_the_dense_rest_at_their_own_rates() -> None:
    torch.manual_seed(0)
    model, images = LeNet5(), torch.rand(64, 1, 28, 28)
    labels, targets = torch.randint(10, (64,)), torch.randn(64, 10)
    factors = LowRank((120, 400), 2).start(model.fc1.weight, torch.eye(400), 0)
    place(model, "fc1", factors, InputMoments(torch.eye(400), torch.zeros(400)))
    watched = (factors.left, model.fc3.weight)
    before = [parameter.detach().clone() for parameter in watched]
    fine_tune(model, images, labels, targets, Training(rate=0.04, epochs=1, seed=0))  # one step of Adam
    moved = [float((after.detach() - old).abs().max()) for after, old in zip(watched, before, strict=True)]
    assert moved == pytest.approx([0.04, 0.005], rel=0.01)


def test_where_images_are_cropped_the_teacher_sees_what_the_model_sees() -> None:
    torch.manual_seed(0)
    images, labels = torch.rand(BATCH, 1, 28, 28), torch.randint(10, (BATCH,))
    model, teacher = QuickLeNet5(), QuickLeNet5()
    seen: dict[nn.Module, list[Tensor]] = {model: [], teacher: []}
    for network, inputs in seen.items():
        network.register_forward_pre_hook(lambda _, given, kept=inputs: kept.append(given[0]))
    fine_tune(model, images, labels, torch.empty(0), Training(0.0, 1, 0, crop=1), teacher)
    (by_model,), (*by_teacher,) = seen.values()
    assert torch.equal(torch.cat(by_teacher), by_model)
    inner = [image[:, 1:-1, 1:-1] for image in by_model]  # what no padding reaches
    pieces = images.unfold(2, 26, 1).unfold(3, 26, 1).flatten(0, 3)  # (N * 9, 26, 26): one starts at each crop's corner
    assert all(any(torch.equal(one.squeeze(0), piece) for piece in pieces) for one in inner[:4])
    assert not torch.equal(by_model.sum((1, 2, 3)).sort().values, images.sum((1, 2, 3)).sort().values)


def test_a_teacher_is_trained_further_on_moved_images() -> None:
    torch.manual_seed(0)
    images, labels, teacher = torch.rand(BATCH, 1, 28, 28), torch.randint(10, (BATCH,)), QuickLeNet5().eval()
    before = {name: tensor.clone() for name, tensor in teacher.state_dict().items()}
    seen: list[Tensor] = []
    teacher.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    correct(teacher, images, labels, epochs=1, crop=1, seed=0)  # one step of Adam
    (moved,) = seen
    assert not torch.equal(moved.sum((1, 2, 3)).sort().values, images.sum((1, 2, 3)).sort().values)
    steps = [float((tensor - before[name]).abs().max()) for name, tensor in teacher.state_dict().items()]
    assert steps == pytest.approx([DENSE_RATE] * len(steps), rel=0.01)
    assert not teacher.training


def make_task(**changes: Any) -> Task:
    forms = forms_of("mnist", "low_rank", "default", 1000)
    return dataclasses.replace(Task("validation", "low_rank", "default", forms, 1000, 0, 0.02, 3, None), **changes)


def test_factors_with_other_numbers_than_announced_are_refused() -> None:
    model = LeNet5()
    task = make_task(forms={"fc1": LowRank((120, 400), 2)}, budget=2000)
    factors = LowRank((120, 400), 1).start(model.fc1.weight, torch.eye(400), 0)
    place(model, "fc1", factors, InputMoments(torch.eye(400), torch.zeros(400)))
    with pytest.raises(RuntimeError, match="expected 1040 numbers"):
        check(model, task)


def test_the_key_tells_runs_apart_but_not_names_of_recipes() -> None:
    task = make_task()
    assert task.key == make_task(recipe="other").key
    others = [
        make_task(stage="test"),
        make_task(seed=1),
        make_task(rate=0.04),
        make_task(epochs=4),
        make_task(images=100),
        make_task(bits=4),
        make_task(natural_epochs=1),
        make_task(crop=1),
        make_task(teacher_epochs=1),
        make_task(forms={**task.forms, "fc1": LowRank((120, 400), 2)}),
    ]
    assert len({task.key, *(other.key for other in others)}) == 1 + len(others)


def run_of(task: Task, accuracy: float) -> dict[str, Any]:
    stored = {form.name: {"bytes": (i + 1) * task.numbers, "accuracy": accuracy} for i, form in enumerate(COMMON)}
    return {
        "key": task.key,
        **task.to_json(),
        "errors": {},
        "stored": stored,
        "baseline": 0.99,
        "seconds": {"fit": 1.0},
        "commit": "0123456789ab",
    }


def test_other_epochs_have_a_result_of_their_own() -> None:
    names = [result_name("mnist", 5), result_name("mnist", 20), result_name("digits", 30), result_name("digits", 5)]
    assert names == ["accuracy", "accuracy_20_epochs", "accuracy_digits", "accuracy_digits_5_epochs"]


def test_runs_are_found_again_and_the_best_of_the_grid_is_chosen(tmp_path: Path) -> None:
    runs = Runs(tmp_path / "runs.jsonl")
    tasks = list(grid("low_rank", [1500, 1000], SETTING))
    assert [task.rate for task in tasks] == list(RATES)
    assert {task.budget for task in tasks} == {1000}
    assert choice("low_rank", 1500, SETTING, runs.find) is None
    for task in tasks:
        runs.add(run_of(task, 0.9 + task.rate))
    again = Runs(tmp_path / "runs.jsonl")
    assert choice("low_rank", 1500, SETTING, again.find) == Choice("default", 8e-2, 1000)


def test_after_many_epochs_the_best_of_each_recipe_are_compared_anew(tmp_path: Path) -> None:
    runs, setting = Runs(tmp_path / "runs.jsonl"), SETTING._replace(epochs=10)
    names = list(METHODS["ours"].recipes)
    for task in grid("ours_full", [1000], setting):
        runs.add(run_of(task, 0.9 - names.index(task.recipe) / 100 + task.rate / 100))
    assert choice("ours_full", 1500, setting, runs.find) == Choice(names[0], 8e-2, 1000)
    assert list(finals("ours_full", [1000], SETTING, runs.find)) == []  # too few epochs
    last = list(finals("ours_full", [1000, 1500], setting, runs.find))
    assert [(task.recipe, task.rate, task.budget) for task in last] == [(name, 8e-2, 1000) for name in names]
    assert {(task.stage, task.method, task.epochs, task.natural_epochs, task.crop) for task in last} == {
        ("validation", "ours_full", 10, 7, 1)
    }
    for task in last:
        runs.add(run_of(task, 0.8 + names.index(task.recipe) / 100))
    assert choice("ours_full", 1500, setting, runs.find) == Choice(names[-1], 8e-2, 1000)
    assert choice("ours", 1500, setting, runs.find) == Choice(names[0], 8e-2, 1000)  # its finals are its own
    assert choice("ours_corrected", 1500, setting, runs.find) == Choice(names[-1], 8e-2, 1000)  # tuned as ours_full
    for task in finals("ours_corrected", [1000], setting, runs.find):
        runs.add(run_of(task, 0.8 - names.index(task.recipe) / 100))
    assert choice("ours_corrected", 1500, setting, runs.find) == Choice(names[0], 8e-2, 1000)


def test_another_seed_chooses_after_many_epochs_where_none_of_the_first_was_run(tmp_path: Path) -> None:
    runs, setting = Runs(tmp_path / "runs.jsonl"), SETTING._replace(epochs=10)
    for task in grid("paper", [1000], setting):
        runs.add(run_of(task, 0.9 + task.rate / 100))
    last = list(finals("paper", [1000], setting, runs.find))
    assert {task.seed for task in last} == {LATER_SEED}
    runs.add(run_of(dataclasses.replace(last[0], seed=0), 0.9))
    assert finals_seeds(runs, setting) == {0}
    again = Runs(tmp_path / "others.jsonl")
    for task in grid("paper", [1000], setting):
        again.add(run_of(task, 0.9 + task.rate / 100))
    for task, accuracy in zip(last, (0.8, 0.9), strict=True):
        again.add(run_of(task, accuracy))
    assert finals_seeds(again, setting) == {LATER_SEED}
    best = choice("paper", 1000, setting, again.find)
    assert best is not None
    assert best.recipe == last[1].recipe
    (test,) = final_tasks("paper", 1000, LATER_SEED, best, setting)
    again.add({**run_of(test, 0.1), "diverged": "the loss rose"})
    second = choice("paper", 1000, setting, again.find)
    assert second is not None
    assert second.recipe != best.recipe


def finals_seeds(runs: Runs, setting: Setting) -> set[int]:
    """Of the runs of all epochs that choose for the paper's method."""
    return {task.seed for task in finals("paper", [1000], setting, runs.find)}


def test_the_epochs_of_a_corrected_teacher_are_among_all(tmp_path: Path) -> None:
    runs, setting = Runs(tmp_path / "runs.jsonl"), SETTING._replace(epochs=20)
    for task in grid("ours", [1000], setting):
        runs.add(run_of(task, 0.9 + task.rate / 100))
    last = list(finals("ours_corrected", [1000], setting, runs.find))
    assert [task.recipe for task in last] == list(METHODS["ours"].recipes)
    for task in last:
        assert (task.epochs, task.teacher_epochs, task.natural_epochs, task.crop) == (20, 5, 10, 1)


def test_runs_that_choose_for_several_methods_are_told_once(tmp_path: Path) -> None:
    for method in TENSORLY:
        available(method)
    runs = Runs(tmp_path / "runs.jsonl")
    tasks = list(grid("ours", [1000], SETTING))
    assert tasks == list(grid("ours_full", [1000], SETTING))
    for task in tasks:
        runs.add(run_of(task, 0.9))
    assert len(fold(runs, SETTING)["validation"]) == len(tasks)


def test_of_a_single_recipe_the_two_best_rates_are_compared_anew(tmp_path: Path) -> None:
    runs, setting = Runs(tmp_path / "runs.jsonl"), SETTING._replace(epochs=10)
    for task in grid("low_rank", [1000], setting):
        runs.add(run_of(task, 0.9 - task.rate))
    last = list(finals("low_rank", [1000], setting, runs.find))
    assert [(task.recipe, task.rate) for task in last] == [("default", RATES[0]), ("default", RATES[1])]
    assert choice("low_rank", 1000, setting, runs.find) == Choice("default", RATES[0], 1000)
    for task in last:
        runs.add(run_of(task, 0.8 + task.rate))
    assert choice("low_rank", 1000, setting, runs.find) == Choice("default", RATES[1], 1000)


def test_a_rate_that_diverges_does_not_count_as_one_of_the_two(tmp_path: Path) -> None:
    runs, setting = Runs(tmp_path / "runs.jsonl"), SETTING._replace(epochs=10)
    for task in grid("low_rank", [1000], setting):
        runs.add(run_of(task, 0.9 - task.rate))
    best, second = finals("low_rank", [1000], setting, runs.find)
    runs.add({key: value for key, value in run_of(best, 0.0).items() if key != "stored"} | {"diverged": "loss is nan"})
    last = list(finals("low_rank", [1000], setting, runs.find))
    assert last[:2] == [best, second]
    assert [task.rate for task in last] == list(RATES[:3])
    for task in last[1:]:
        runs.add(run_of(task, 0.8 + task.rate))
    assert list(finals("low_rank", [1000], setting, runs.find)) == last
    assert choice("low_rank", 1000, setting, runs.find) == Choice("default", RATES[2], 1000)


def test_what_was_compared_after_all_epochs_is_told_with_the_best_first() -> None:
    def run_after(epochs: int, method: str, recipe: str, accuracy: float | None, rate: float = 4e-2) -> dict[str, Any]:
        run = {"method": method, "recipe": recipe, "rate": rate, "budget": 1000, "epochs": epochs}
        return run if accuracy is None else run | {"stored": {"fp32": {"bytes": 1, "accuracy": accuracy}}}

    grid_run = run_after(2, "ours", "a", 0.99)
    finals_run = [run_after(20, "ours", *found) for found in (("a", 0.9), ("b", None), ("c", 0.95))]
    result = {"epochs": 20, "tuning_epochs": 2, "validation": [grid_run, *finals_run]}
    assert finals_table(result).splitlines()[2:] == ["| ≤ 1,000 | c 95.00; a 90.00; b diverged |"]
    rates = [run_after(20, "cp", "default", accuracy, rate) for accuracy, rate in ((0.9, 8e-2), (0.95, 2e-2))]
    assert finals_table({**result, "validation": rates}).splitlines()[2:] == ["| ≤ 1,000 | 0.02 95.00; 0.08 90.00 |"]
    alone = run_after(20, "ours_corrected", "a", 0.97)  # to compare trainings
    assert finals_table({**result, "validation": [*rates, alone]}).endswith(" | 0.02 95.00; 0.08 90.00 | - |")
    assert finals_table({**result, "validation": [grid_run]}) == ""
    assert finals_table({**result, "epochs": 2}) == ""  # the grid itself is run for all epochs


def test_runs_from_another_baseline_are_not_put_beside_those_that_are_stored(tmp_path: Path) -> None:
    runs = Runs(tmp_path / "runs.jsonl")
    runs.check_baselines({0: 0.99, 1: 0.98})
    runs.add({**run_of(make_task(stage="test", seed=1), 0.97), "baseline": 0.98})
    runs.check_baselines({0: 0.99, 1: 0.98})
    with pytest.raises(SystemExit, match=r"baseline 1: expected an accuracy of 98.00% .* got 98.01%"):
        runs.check_baselines({0: 0.99, 1: 0.9801})


def test_a_baseline_that_is_kept_is_the_one_of_every_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(problems, "OUT", tmp_path / "out")
    monkeypatch.setattr(problems, "BASELINES", tmp_path / "baselines")
    trained: list[dict[str, Tensor]] = []

    def train(_part: Part, _seed: int) -> dict[str, Tensor]:
        trained.append(dict(DIGITS.make().state_dict()))
        return trained[-1]

    problem = dataclasses.replace(DIGITS, train=train, least_baseline=0.0)
    data = Data(*(part.first(20) for part in problem.read(None)))
    baseline(problem, data, 0, trial=False)
    keep_baseline(problem, data, 0)
    shutil.rmtree(tmp_path / "out")  # another machine has the results alone
    models = [baseline(problem, data, 0, trial=trial).model for trial in (False, True)]
    assert len(trained) == 2  # a trial trains its own
    for model, state in zip(models, trained, strict=True):
        assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    with pytest.raises(SystemExit, match="digits, baseline 0: expected at least"):
        baseline(dataclasses.replace(problem, least_baseline=1.1), data, 0, trial=False)


def test_stored_runs_are_found_by_the_tasks_of_today() -> None:
    stored = Runs(RESULTS / "accuracy.jsonl")
    setting = Setting(MNIST.epochs, None, MNIST.tuning_epochs)
    assert all(stored.find(task) is not None for task in grid("low_rank", BUDGETS, setting))


def test_a_run_on_other_data_has_another_key() -> None:
    (task, *_), (other, *_) = (list(grid("tt_matrix", [1000], SETTING._replace(problem=name))) for name in PROBLEMS)
    assert dataclasses.replace(task, problem="digits").key != task.key
    assert other.forms.keys() == PROBLEMS["digits"].shapes.keys()
    for layer, form in other.forms.items():
        assert form.start(torch.randn(PROBLEMS["digits"].shapes[layer]), torch.empty(0), 0)().numel() > 0


def test_a_diverged_run_is_never_the_best(tmp_path: Path) -> None:
    runs = Runs(tmp_path / "runs.jsonl")
    for task in grid("low_rank", [1000], SETTING):
        row = run_of(task, 0.1)
        if task.rate > RATES[0]:
            row = {**row, "diverged": "the loss is nan"}
            del row["stored"]
        runs.add(row)
    found = choice("low_rank", 1000, SETTING, runs.find)
    assert found is not None
    assert found.rate == RATES[0]


def test_a_choice_that_diverges_with_all_epochs_gives_way_to_the_next_best(tmp_path: Path) -> None:
    runs = Runs(tmp_path / "runs.jsonl")
    for task in grid("low_rank", [1000], SETTING):
        runs.add(run_of(task, 0.9 + task.rate))
    best = choice("low_rank", 1000, SETTING, runs.find)
    assert best is not None
    (task,) = final_tasks("low_rank", 1000, 0, best, SETTING)
    runs.add({**run_of(task, 0.1), "diverged": "the loss rose"})
    second = choice("low_rank", 1000, SETTING, runs.find)
    assert second is not None
    assert (best.rate, second.rate) == tuple(sorted(RATES)[:-3:-1])


def test_training_whose_loss_rises_is_said_to_have_diverged() -> None:
    torch.manual_seed(0)
    images, labels = torch.rand(2 * BATCH, 1, 28, 28), torch.randint(10, (2 * BATCH,))
    model = QuickLeNet5()
    fine_tune(copy.deepcopy(model), images, labels, outputs_of(model, images), Training(0.0, 3, 0))
    with pytest.raises(TrainingDiverged, match="rose from"):
        fine_tune(_Worsening(model), images, labels, outputs_of(model, images), Training(0.0, 3, 0))


class _Worsening(nn.Module):
    """A model that is further off with every batch."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.batches = 0

    def forward(self, images: Tensor) -> Tensor:
        self.batches += 1
        logits: Tensor = self.model(images)
        return logits * 3**self.batches


def test_the_tables_show_every_method_and_budget_and_say_why_one_is_missing(tmp_path: Path) -> None:
    for method in TENSORLY:
        available(method)
    runs = Runs(tmp_path / "runs.jsonl")
    for method, base in (("low_rank", 0.97), ("tt_matrix", 0.98)):
        for task in grid(method, [1000], SETTING):
            runs.add(run_of(task, base))
        chosen = choice(method, 1000, SETTING, runs.find)
        assert chosen is not None
        for seed in (0, 1, 2) if method == "low_rank" else (0, 1, 2, 5):
            for task in final_tasks(method, 1000, seed, chosen, SETTING):
                runs.add(run_of(task, base + 0.001 * min(seed, 1)))
    result = fold(runs, SETTING)
    assert len(result["rows"]) == len(BUDGETS) * len(METHODS)
    by_numbers = accuracy_table(result)
    assert "97.07 ± 0.06 (0.10), 890" in by_numbers
    assert "**98.07 ± 0.05 (0.10) [4 seeds], " in by_numbers
    assert "- `low_rank` at 250, 400, 650: its smallest form has 890 numbers." in by_numbers
    assert "not run" in by_numbers
    assert "| ≤ 1,000 | int8 | 97.07 ± 0.06 (0.10), 2,670 B |" in bytes_table(result)
    chosen_of = next(line for line in choices_table(result).splitlines() if line.startswith("| ≤ 1,000 |"))
    assert chosen_of.startswith("| ≤ 1,000 | default, 0.005 | ")
    assert chosen_of.endswith(", 0.005 (seeds 0, 1, 2, 5) |")


def test_a_form_of_storage_has_the_seeds_that_it_was_run_with(tmp_path: Path) -> None:
    """Further seeds may be run with floats alone; of fewer seeds than wanted none is the best of its row."""
    for method in TENSORLY:
        available(method)
    runs = Runs(tmp_path / "runs.jsonl")
    for task in grid("ours", [1000], SETTING):
        runs.add(run_of(task, 0.98))
    chosen = choice("ours", 1000, SETTING, runs.find)
    assert chosen is not None
    for seed in range(4):
        for task in final_tasks("ours", 1000, seed, chosen, SETTING):
            if task.bits is None:
                runs.add(run_of(task, 0.98))
            elif seed < 2 or (task.bits == 6 and seed == 2):
                few = {in_bits(task.bits).name: {"bytes": 100, "accuracy": 0.97}}
                runs.add(run_of(task, 0.97) | {"stored": few})
    lines = bytes_table(fold(runs, SETTING)).splitlines()
    assert any(line.startswith("| ≤ 1,000 | fp32 | **98.00 ± 0.00 (0.00) [4 seeds], ") for line in lines)
    assert any(line.startswith("| ≤ 1,000 | 6 bits, trained | **97.00 ± 0.00 (0.00), ") for line in lines)
    assert any(line.startswith("| ≤ 1,000 | 4 bits, trained | 97.00 ± 0.00 (0.00) [2 seeds], ") for line in lines)
    floats, *_, few_bits = final_tasks("ours", 1000, 2, chosen, SETTING)

    def diverge(task: Task) -> None:
        row = run_of(task, 0.1) | {"diverged": "the loss rose"}
        del row["stored"]
        runs.add(row)

    diverge(few_bits)
    lines = bytes_table(fold(runs, SETTING)).splitlines()
    assert any(line.startswith("| ≤ 1,000 | fp32 | **98.00") for line in lines)
    assert any(line == "| ≤ 1,000 | 4 bits, trained | diverged |" for line in lines)
    diverge(floats)
    lines = bytes_table(fold(runs, SETTING)).splitlines()
    assert any(line == "| ≤ 1,000 | fp32 | diverged |" for line in lines)


def test_bytes_that_peers_need_lie_on_their_front() -> None:
    def at(size: int, accuracy: float) -> Point:
        return Point(size, Spread(100 - accuracy, 0.0, 0.0))

    points = front([at(100, 97.0), at(150, 96.0), at(400, 99.0), at(400, 98.0)])
    assert points == [at(100, 97.0), at(400, 99.0)]
    assert bytes_needed(points, 96.0) == (100, True)  # smaller ones were not run
    assert bytes_needed(points, 97.0) == (100, False)
    assert [bytes_needed(points, accuracy) for accuracy in (98.0, 99.0)] == [
        (pytest.approx(200), False),
        (pytest.approx(400), False),
    ]
    assert bytes_needed(points, 99.01) is None


def test_the_table_of_ratios_compares_few_bits_with_all_that_peers_are_stored_in() -> None:
    def row(method: str, **stored: tuple[int, float]) -> dict[str, Any]:
        forms = {name.replace("_", " "): {"bytes": b, "accuracy": a / 100} for name, (b, a) in stored.items()}
        return {"method": method, "budget": 1000, "runs": [{"seed": 0, "stored": forms}]}

    few = in_bits(4).name
    own = row("ours_full", fp32=(50, 99.9))
    own["runs"][0]["stored"][few] = {"bytes": 80, "accuracy": 0.98}
    peer = row("tt_matrix", fp32=(1600, 99.0), fp16=(800, 99.0), int8=(400, 99.0))
    result = {"problem": "mnist", "least_seeds": 1}
    table = ratios_table(
        {**result, "rows": [row("low_rank", int8=(100, 97.0)), peer, own, row("ours", fp32=(10, 99.9))]}
    )
    whole = f"{(80 + 2 * 1226) / (200 + 2 * 1226):.2f}"  # the rest of LeNet-5 has 1,226 numbers
    told = f"| ≤ 1,000 | ours_full | {few} | 98.00 | 80 | 200 | 0.40 | {whole} |"
    assert table.splitlines()[2:] == [told]
    likewise = row("tt_matrix_corrected", int8=(100, 98.5))
    table = ratios_table({**result, "rows": [row("low_rank", int8=(100, 97.0)), peer, own, likewise]})
    assert table.splitlines()[2:] == [f"{told} ≤ 100 | ≥ 0.80 |"]


def test_spread_is_over_the_runs() -> None:
    assert spread([1.0, 2.0, 4.0]) == pytest.approx((7 / 3, math.sqrt(7 / 3), 3.0))
    assert spread([1.0]) == (1.0, 0.0, 0.0)


def test_the_front_has_no_point_that_another_beats() -> None:
    plotting = plotter()
    sizes_and_errors = [(10, 5.0), (20, 6.0), (20, 4.0), (30, 4.0), (40, 3.0)]
    points = [plotting.Point(size, Spread(error, 0.0, 0.0)) for size, error in sizes_and_errors]
    assert [point.size for point in plotting.front(points)] == [10, 20, 40]


def test_the_same_result_is_the_same_figure(tmp_path: Path) -> None:
    plotting = plotter()
    task = make_task(stage="test")
    row = {"method": "low_rank", "budget": 1000, "numbers": task.numbers, "runs": [run_of(task, 0.97)]}
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        plotting.plot({"rows": [row]}, tmp_path / name, "accuracy")
    for file in ("accuracy_numbers.svg", "accuracy_bytes.svg"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def plotter() -> ModuleType:
    """The module of the figures, or a skipped test where there is nothing to draw with."""
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    return import_module("bench.accuracy.plot")
