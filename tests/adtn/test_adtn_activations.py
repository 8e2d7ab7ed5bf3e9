"""Activations that are computed once: fine-tuning with them and without them comes to the same."""

import tempfile
from collections import namedtuple
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, Self

import pytest
import torch
from support.small_vgg import images, small_vgg
from torch import Tensor, nn

from adtn import FineTuned, FineTuneOptions, encoded, fine_tune
from adtn import activations as module

OPTIONS = FineTuneOptions(epochs=3, batch_size=16, dense="freeze")
Usage = namedtuple("Usage", "total used free")


@pytest.fixture(autouse=True)
def temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Whatever becomes of the training, no file is left."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    yield tmp_path
    assert list(tmp_path.glob("adtn*")) == []


class Calls:
    """Counts the samples that a module sees."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, kind: type[nn.Module]) -> None:
        self.samples = 0
        forward = kind.forward

        def counted(own: nn.Module, inputs: Tensor) -> Tensor:
            if isinstance(inputs, Tensor):
                self.samples += len(inputs)
            return forward(own, inputs)

        monkeypatch.setattr(kind, "forward", counted)


def tuned(teacher: nn.Module | None = None, count: int = 64, **options: Any) -> tuple[nn.Module, FineTuned]:
    model = small_vgg()
    return model, fine_tune(model, *images(count), FineTuneOptions(**{**vars(OPTIONS), **options}), teacher)


def assert_same(first: nn.Module, second: nn.Module, **tolerance: float) -> None:
    for key, gates in encoded(first).items():
        other = encoded(second)[key]
        assert not torch.equal(gates.gates, encoded(small_vgg())[key].gates)
        torch.testing.assert_close(gates.gates, other.gates, **(tolerance or {"rtol": 0, "atol": 0}))
    torch.testing.assert_close(first.state_dict(), second.state_dict(), **(tolerance or {"rtol": 0, "atol": 0}))


@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("distill", [False, True])
def test_the_gates_are_those_of_the_plain_loop(distill: bool, accumulate: int) -> None:
    teacher = small_vgg(encoded=False) if distill else None
    cached, fact = tuned(teacher, accumulate=accumulate)
    plain, plain_fact = tuned(teacher, accumulate=accumulate, cache_bytes=0)
    assert (fact.cached_bytes, fact.not_cached) == (64 * 16 * 4, None)
    assert (plain_fact.cached_bytes, plain_fact.not_cached) == (0, "cache_bytes is 0")
    assert_same(cached, plain)


def test_batches_of_other_sizes_differ_by_rounding_alone() -> None:
    cached, fact = tuned(count=61)
    assert fact.cached_bytes > 0
    assert_same(cached, tuned(count=61, cache_bytes=0)[0], rtol=1e-4, atol=1e-6)


def test_a_frozen_prefix_of_a_model_that_is_trained_is_kept_too() -> None:
    models = []
    for cache_bytes in (0, 10**6):
        model = small_vgg()
        model.features.requires_grad_(False)
        statistics = model.features[1].running_mean.clone()
        fact = fine_tune(model, *images(), FineTuneOptions(epochs=2, batch_size=16, cache_bytes=cache_bytes))
        assert (fact.cached_bytes > 0) == (cache_bytes > 0)
        assert torch.equal(model.features[1].running_mean, statistics)
        assert not torch.equal(model.classifier[6].bias, small_vgg().classifier[6].bias)
        models.append(model)
    assert_same(*models)


def test_convolutions_see_each_sample_once(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = Calls(monkeypatch, nn.Conv2d)
    tuned(cache_bytes=0)
    assert calls.samples == 2 * 3 * 64  # two convolutions, three epochs
    calls.samples = 0
    tuned()
    few = module.PROBED + module.COMPARED
    assert calls.samples == 2 * (64 + few)
    calls.samples = 0
    tuned(small_vgg(encoded=False))  # which goes on from the same activations
    assert calls.samples == 2 * (64 + few + module.COMPARED)
    calls.samples = 0
    other = small_vgg(encoded=False)
    torch.nn.init.ones_(other.features[4].bias)
    tuned(other)
    assert calls.samples == 2 * (2 * 64 + few)


def test_a_teacher_that_begins_otherwise_is_imitated_all_the_same() -> None:
    teacher = small_vgg(encoded=False)
    torch.nn.init.ones_(teacher.features[4].bias)
    assert_same(tuned(teacher)[0], tuned(teacher, cache_bytes=0)[0])


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"cache_bytes": 64 * 16 * 4 - 1}, "take 4,096 bytes, and there is room for 4,095"),
        ({"dense": "train"}, "no parameter is frozen"),
        ({"transform": lambda batch, generator: batch}, "each step transforms its inputs anew"),
    ],
    ids=["budget", "trained", "transform"],
)
def test_where_nothing_is_kept_the_reason_is_told(options: dict[str, Any], reason: str) -> None:
    _, fact = tuned(**options)
    assert fact.cached_bytes == 0
    assert reason in str(fact.not_cached)


def test_half_of_what_is_left_on_the_disk_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.shutil, "disk_usage", lambda path: Usage(10**9, 10**9 - 8000, 8000))
    assert "room for 4,000" in str(tuned()[1].not_cached)


def test_a_disk_that_fills_up_meanwhile_is_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.shutil, "disk_usage", lambda path: Usage(10**9, 0, 10**9))

    class Full:
        def __init__(self, file: BinaryIO) -> None:
            self.file = file

        def __enter__(self) -> Self:
            return self

        def __exit__(self, *_error: object) -> None:
            self.file.close()

        def write(self, _bytes: memoryview) -> int:
            raise OSError("No space left on device")

    opened = Path.open
    monkeypatch.setattr(Path, "open", lambda path, mode: Full(opened(path, mode)))
    model, fact = tuned()
    assert "No space left" in str(fact.not_cached)
    assert_same(model, tuned(cache_bytes=0)[0])


class Counting(nn.Module):
    """What it adds depends on how often it was called, which no trace can know."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = small_vgg()
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return self.inner(x) + self.calls


class Mixing(nn.Module):
    """Samples of a batch change each other."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = small_vgg()

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x - x.mean(0))


@pytest.mark.parametrize("kind", [Counting, Mixing])
def test_other_outputs_than_those_of_the_model_are_not_used(kind: type[nn.Module]) -> None:
    results = []
    for cache_bytes in (0, 10**6):
        model = kind()
        fact = fine_tune(model, *images(), FineTuneOptions(2, batch_size=16, dense="freeze", cache_bytes=cache_bytes))
        assert fact.cached_bytes == 0
        results.append((fact, model))
    assert results[1][0].not_cached == "the outputs from activations are not those from inputs"
    if kind is Mixing:
        assert_same(results[0][1].inner, results[1][1].inner)


class InPlace(nn.Module):
    """Begins with an operation in place, and has another one just behind the prefix."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(6, 6).requires_grad_(False)
        self.head = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x.mul_(2))
        return self.head(x.repeat(1, 2).add_(1)[:, :6])


def test_operations_in_place_change_neither_the_data_nor_what_is_kept() -> None:
    inputs, labels = torch.randn(40, 6), torch.randint(3, (40,))
    before, models = inputs.clone(), []
    for cache_bytes in (0, 10**6):
        torch.manual_seed(0)
        model, teacher = InPlace(), InPlace()
        teacher.first.load_state_dict(model.first.state_dict())
        fact = fine_tune(model, inputs, labels, FineTuneOptions(2, batch_size=8, cache_bytes=cache_bytes), teacher)
        assert (fact.cached_bytes > 0) == (cache_bytes > 0)
        assert torch.equal(inputs, before)
        models.append(model)
    torch.testing.assert_close(models[0].state_dict(), models[1].state_dict())
    seen: list[Tensor] = []
    model.register_forward_pre_hook(lambda _module, args: seen.append(args[0].clone()))
    options = FineTuneOptions(1, batch_size=40, transform=lambda batch, _generator: batch)
    fine_tune(model, inputs, labels, options, teacher)
    assert torch.equal(seen[0].sort(0).values, inputs.sort(0).values)  # not what the teacher made of them


@pytest.mark.parametrize(("kind", "files"), [(Mixing, 0), (small_vgg, 1)])
def test_a_file_that_is_of_no_use_is_gone_before_the_training(
    temporary_folder: Path, kind: Callable[[], nn.Module], files: int
) -> None:
    found: list[int] = []
    fine_tune(kind(), *images(), OPTIONS, on_step=lambda *_: found.append(len(list(temporary_folder.glob("adtn*/*")))))
    assert set(found) == {files}


@pytest.mark.parametrize("stops", ["on_step", "on_preparing"])
def test_nothing_is_left_when_a_callback_stops_it(stops: str) -> None:
    def stop(*_arguments: object) -> None:
        raise KeyboardInterrupt

    model = small_vgg().eval()
    with pytest.raises(KeyboardInterrupt):
        fine_tune(model, *images(), OPTIONS, **{stops: stop})
    assert not any(part.training for part in model.modules())
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_the_preparation_calls_back_before_each_batch() -> None:
    calls: list[int] = []
    fine_tune(small_vgg(), *images(), OPTIONS, small_vgg(False), on_preparing=lambda: calls.append(1))
    assert len(calls) == 2 * 64 / 16  # activations, and the teacher's outputs


def test_activations_of_half_precision_are_kept_in_it() -> None:
    cached, fact = tuned(precision="bfloat16")
    assert fact.cached_bytes == 64 * 16 * 2
    assert_same(cached, tuned(precision="bfloat16", cache_bytes=0)[0])
