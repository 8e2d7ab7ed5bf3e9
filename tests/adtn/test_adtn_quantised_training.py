"""Fine-tuning gates that are stored in few bits."""

import copy
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from support.digits import DigitsLeNet, accuracy, trained_lenet
from torch import nn

import adtn
from adtn import ADTN, FineTuneOptions, FitOptions, ShapeError, encoded, fine_tune
from adtn.schedules import phased_in
from worker.datasets import Dataset, load

EPOCHS = FineTuneOptions(epochs=12, batch_size=64)
STRUCTURES = {"conv2.weight": adtn.brick_wall(11), **{f"{name}.weight": adtn.brick_wall(13) for name in ("fc1", "fc2")}}


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Small models gain nothing from more, and wait for each other on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load("digits")


@pytest.fixture(scope="module")
def teacher(digits: Dataset) -> DigitsLeNet:
    return trained_lenet(digits)


@pytest.fixture(scope="module")
def fitted(teacher: DigitsLeNet, digits: Dataset) -> DigitsLeNet:
    model = copy.deepcopy(teacher)
    adtn.compress(model, STRUCTURES, FitOptions(steps=100), inputs=digits.train_x)
    return model


def tuned(fitted: nn.Module, teacher: nn.Module, digits: Dataset, **options: object) -> nn.Module:
    model = copy.deepcopy(fitted)
    changed = FineTuneOptions(**{**vars(EPOCHS), **options})
    fine_tune(model, digits.train_x, digits.train_y, changed, teacher)
    return model.eval()


def rounded(model: nn.Module, bits: int) -> nn.Module:
    """As it is, but for its gates, which are rounded now."""
    model = copy.deepcopy(model)
    for item in encoded(model).values():
        item.quantise(bits)
    return model


def test_rounding_in_training_beats_rounding_after_it(fitted: nn.Module, teacher: nn.Module, digits: Dataset) -> None:
    """In 3 bits what is rounded afterwards hardly does better than a guess, 0.1."""
    gains = []
    for seed in range(3):
        after = rounded(tuned(fitted, teacher, digits, seed=seed, epochs=4), 3)
        within = tuned(fitted, teacher, digits, seed=seed, epochs=4, gate_bits=3)
        gains.append(accuracy(within, digits.test_x, digits.test_y) - accuracy(after, digits.test_x, digits.test_y))
    assert min(gains) > 0.2


def test_eight_bits_cost_almost_nothing(fitted: nn.Module, teacher: nn.Module, digits: Dataset) -> None:
    floats, eight = (tuned(fitted, teacher, digits, epochs=6, gate_bits=bits) for bits in (None, 8))
    exact, found = (accuracy(model, digits.test_x, digits.test_y) for model in (floats, eight))
    assert found > exact - 0.03


def test_what_was_trained_is_what_a_file_holds(
    fitted: nn.Module, teacher: nn.Module, digits: Dataset, tmp_path: Path
) -> None:
    model = tuned(fitted, teacher, digits, gate_bits=4, epochs=1)
    adtn.save(model, tmp_path / "m.safetensors")
    state = adtn.decode(tmp_path / "m.safetensors")
    for key, item in encoded(model).items():
        assert (item.bits, item.rounding) == (4, 1)
        assert torch.equal(item(), state[key])
        ratios = item.numbers() / item.scales
        torch.testing.assert_close(ratios, ratios.round())
        assert ratios.abs().max().round() <= 7


def test_the_rounding_is_phased_in_and_whole_in_the_last_tenth(fitted: nn.Module, digits: Dataset) -> None:
    model = copy.deepcopy(fitted)
    seen: list[float] = []
    fine_tune(
        model,
        digits.train_x,
        digits.train_y,
        FineTuneOptions(epochs=2, batch_size=64, gate_bits=4),
        on_step=lambda *_: seen.append(encoded(model)["fc1.weight"].rounding),
    )
    assert seen == sorted(seen)
    assert 0 < seen[0] < 0.05
    assert seen[int(0.9 * len(seen)) :] == [1.0] * (len(seen) - int(0.9 * len(seen)))
    assert 0.45 < seen[int(0.45 * len(seen))] < 0.6


def test_training_that_is_stopped_leaves_the_rounding_whole(fitted: nn.Module, digits: Dataset) -> None:
    model = copy.deepcopy(fitted)

    def stop(step: int, steps: int, loss: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fine_tune(model, digits.train_x, digits.train_y, FineTuneOptions(gate_bits=4), on_step=stop)
    assert [(item.bits, item.rounding) for item in encoded(model).values()] == [(4, 1.0)] * 3


def test_no_epochs_round_all_the_same(fitted: nn.Module, digits: Dataset) -> None:
    model = copy.deepcopy(fitted)
    fine_tune(model, digits.train_x, digits.train_y, FineTuneOptions(epochs=0, gate_bits=5))
    for key, item in encoded(model).items():
        assert item.bits == 5
        assert torch.equal(item(), encoded(rounded(fitted, 5))[key]())


def test_without_bits_quantised_gates_are_trained_as_they_are(fitted: nn.Module, digits: Dataset) -> None:
    model = rounded(fitted, 6)
    scales = [item.scales.clone() for item in encoded(model).values()]
    before = [item.gates.detach().clone() for item in encoded(model).values()]
    fine_tune(model, digits.train_x, digits.train_y, FineTuneOptions(epochs=1, batch_size=256))
    for item, scale, gates in zip(encoded(model).values(), scales, before, strict=True):
        assert (item.bits, item.rounding) == (6, 1)
        assert torch.equal(item.scales, scale)
        assert not torch.equal(item.gates, gates)


def test_bits_out_of_range_are_refused(fitted: nn.Module, digits: Dataset) -> None:
    with pytest.raises(ShapeError, match="bits: expected an integer from 2 to 8, got 9"):
        fine_tune(copy.deepcopy(fitted), digits.train_x, digits.train_y, FineTuneOptions(gate_bits=9))


def test_a_part_of_the_rounding_is_a_part_of_the_way() -> None:
    item = ADTN((5, 7), adtn.brick_wall(6), generator=torch.Generator().manual_seed(0))
    item.quantise(3)
    whole = item.numbers().detach()
    item.rounding = 0.25
    torch.testing.assert_close(item.numbers().detach(), 0.75 * item.gates.detach() + 0.25 * whole)


@pytest.mark.parametrize("steps", [1, 2, 7, 100])
def test_rounding_grows_to_the_whole(steps: int) -> None:
    shares = [phased_in(step, steps) for step in range(steps)]
    assert shares == sorted(shares)
    assert shares[-1] == 1
    assert all(0 < share <= 1 for share in shares)
