"""Which training samples are held out."""

import pytest
import torch

from worker.pipeline.heldout import MAX_SAMPLES, split


def test_every_sample_is_on_one_side_and_every_class_gives_its_share() -> None:
    labels = torch.tensor([0] * 500 + [1] * 50 + [2] * 5)
    parts = split(labels, seed=0)
    assert sorted([*parts.train.tolist(), *parts.heldout.tolist()]) == list(range(555))
    assert labels[parts.heldout].bincount().tolist() == [100, 10, 1]


def test_the_seed_decides() -> None:
    labels = torch.arange(1000) % 10
    first, again, other = (split(labels, seed).heldout for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_neither_side_is_sorted_by_class() -> None:
    labels = torch.arange(1000) // 100
    parts = split(labels, seed=0)
    for side in (parts.train, parts.heldout):
        assert labels[side][:100].unique().numel() == 10


def test_no_more_are_held_out_than_help() -> None:
    assert len(split(torch.zeros(200_000, dtype=torch.int64), seed=0).heldout) == MAX_SAMPLES


@pytest.mark.parametrize("count", [0, 1, 2])
def test_too_few_samples_are_all_trained_on(count: int) -> None:
    parts = split(torch.zeros(count, dtype=torch.int64), seed=0)
    assert (len(parts.train), len(parts.heldout)) == (count, 0)
