"""Batches, micro-batches, and what is done to their inputs."""

import threading
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from adtn.feeding import Feed, Samples, one_ahead


def feed(count: int = 10, seed: int = 0, **others: object) -> Feed:
    samples = Samples(torch.arange(count, dtype=torch.float32)[:, None], torch.arange(count))
    return Feed(samples, torch.device("cpu"), seed, **others)  # type: ignore[arg-type]


@pytest.mark.parametrize(("count", "size", "sizes"), [(10, 4, [4, 4, 2]), (9, 4, [4, 4]), (1, 4, [1]), (3, 1, [1] * 3)])
def test_an_epoch_has_every_sample_once_but_for_a_last_one_alone(count: int, size: int, sizes: list[int]) -> None:
    epoch = list(feed(count).epoch(size))
    assert [len(batch) for batch in epoch] == sizes
    assert feed(count).steps(size) == len(sizes)
    seen = torch.cat(epoch).tolist()
    assert len(set(seen)) == len(seen) == sum(sizes)


def test_each_epoch_has_an_order_of_its_own_that_the_seed_decides() -> None:
    one, same, other = feed(), feed(), feed(seed=1)
    orders = [torch.cat(list(each.epoch(4))).tolist() for each in (one, one, same, same, other)]
    assert orders[0] != orders[1]
    assert orders[:2] == orders[2:4]
    assert orders[4] not in orders[:2]


@pytest.mark.parametrize(
    ("size", "count", "sizes"),
    [(8, 1, [8]), (8, 4, [2] * 4), (8, 3, [3, 3, 2]), (5, 4, [3, 2]), (3, 4, [3]), (1, 4, [1])],
)
def test_micro_batches_are_the_batch_in_equal_parts_of_at_least_two(size: int, count: int, sizes: list[int]) -> None:
    batch = torch.randperm(10)[:size]
    parts = list(feed().micro_batches(batch, count))
    assert [len(part.labels) for part in parts] == sizes
    assert torch.equal(torch.cat([part.labels for part in parts]), batch)
    assert torch.equal(torch.cat([part.inputs for part in parts]), batch[:, None].float())
    assert [part.share for part in parts] == [one / size for one in sizes]


def test_a_transform_sees_the_whole_batch_and_draws_the_same_however_it_is_cut() -> None:
    seen: list[int] = []

    def noisy(batch: Tensor, generator: torch.Generator) -> Tensor:
        seen.append(len(batch))
        return batch + torch.rand(batch.shape, generator=generator)

    batch = torch.randperm(10)[:8]
    whole, cut = (
        torch.cat([part.inputs for part in feed(transform=noisy).micro_batches(batch, count)]) for count in (1, 4)
    )
    assert seen == [8, 8]
    assert torch.equal(whole, cut)
    assert ((whole - batch[:, None]) > 0).all()
    torch.manual_seed(0)
    assert not torch.equal(whole - batch[:, None], torch.rand(8, 1))  # nor the numbers that dropout draws


def test_targets_are_those_of_the_samples_or_of_a_teacher_that_sees_what_the_model_sees() -> None:
    batch = torch.tensor([4, 2, 7, 1])
    given = Samples(torch.zeros(10, 1), torch.arange(10), torch.arange(10.0)[:, None])
    parts = list(Feed(given, torch.device("cpu"), 0).micro_batches(batch, 2))
    assert torch.equal(torch.cat([part.targets for part in parts if part.targets is not None]), batch[:, None].float())
    taught = feed(transform=lambda inputs, _generator: inputs + 100, teacher=lambda inputs: -inputs)
    for part in taught.micro_batches(batch, 2):
        assert part.targets is not None
        assert torch.equal(part.targets, -part.inputs)
        assert (part.inputs >= 100).all()
    assert next(feed().micro_batches(batch, 1)).targets is None


def test_the_next_item_is_made_while_one_is_used() -> None:
    begun = [threading.Event() for _ in range(3)]

    def made() -> Iterator[int]:
        for number, event in enumerate(begun):
            event.set()
            yield number

    found = []
    for number in one_ahead(made()):
        assert all(event.wait(10) for event in begun[: number + 2])
        found.append(number)
    assert found == [0, 1, 2]


def test_what_fails_while_it_is_made_fails_where_it_is_wanted() -> None:
    def made() -> Iterator[int]:
        yield 0
        raise ValueError("the second")

    items = one_ahead(made())
    assert next(items) == 0
    with pytest.raises(ValueError, match="the second"):
        next(items)
