"""Which samples are held out."""

from dataclasses import replace

import pytest
import torch

from worker.datasets import Dataset
from worker.pipeline.heldout import MAX_SAMPLES, parts_of, split


def test_every_sample_is_on_one_side_and_every_class_gives_its_share() -> None:
    labels = torch.tensor([0] * 500 + [1] * 50 + [2] * 5)
    train, heldout = split(labels, seed=0)
    assert sorted([*train.tolist(), *heldout.tolist()]) == list(range(555))
    assert labels[heldout].bincount().tolist() == [100, 10, 1]


@pytest.mark.parametrize(
    ("classes", "of_each", "expected"), [(15, 4000, 10_000), (100, 2, 40), (20_000, 3, 10_000), (7, 1, 0)]
)
def test_of_many_classes_as_many_are_held_out_as_of_few(classes: int, of_each: int, expected: int) -> None:
    labels = torch.arange(classes * of_each) % classes
    train, heldout = split(labels, seed=0)
    assert (len(heldout), len(train) + len(heldout)) == (expected, len(labels))
    assert labels[train].unique().numel() == classes


def test_the_seed_decides() -> None:
    labels = torch.arange(1000) % 10
    first, again, other = (split(labels, seed)[1] for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_neither_side_is_sorted_by_class() -> None:
    labels = torch.arange(1000) // 100
    for side in split(labels, seed=0):
        assert labels[side][:100].unique().numel() == 10


def test_no_more_are_held_out_than_help() -> None:
    assert len(split(torch.zeros(200_000, dtype=torch.int64), seed=0)[1]) == MAX_SAMPLES


@pytest.mark.parametrize("count", [0, 1, 2])
def test_too_few_samples_are_all_trained_on(count: int) -> None:
    train, heldout = split(torch.zeros(count, dtype=torch.int64), seed=0)
    assert (len(train), len(heldout)) == (count, 0)


def dataset(train: int, validation: int | None) -> Dataset:
    """Samples with numbers of their own, labelled with their last digits."""
    x = torch.arange(float(train)).unsqueeze(1)
    found = Dataset(x, torch.arange(train) % 10, -x[:1], torch.zeros(1, dtype=torch.int64), classes=10)
    if validation is None:
        return found
    val = 1e6 + torch.arange(float(validation)).unsqueeze(1)
    return replace(found, val_x=val, val_y=torch.arange(validation) % 10)


def test_without_a_validation_split_training_samples_are_held_out() -> None:
    data = dataset(100, None)
    parts = parts_of(data, seed=0)
    assert parts.heldout_split == "train"
    assert sorted([*data.train_x[parts.train].flatten().tolist(), *parts.heldout_x.flatten().tolist()]) == list(
        range(100)
    )
    assert torch.equal(parts.heldout_x.flatten().long() % 10, parts.heldout_y)


@pytest.mark.parametrize("count", [1, 30, MAX_SAMPLES + 5])
def test_a_validation_split_is_held_out_and_all_else_trained_on(count: int) -> None:
    parts, again, other = (parts_of(dataset(100, count), seed) for seed in (0, 0, 1))
    assert parts.heldout_split == "val"
    assert sorted(parts.train.tolist()) == list(range(100))
    assert len(parts.heldout_x.unique()) == len(parts.heldout_y) == min(count, MAX_SAMPLES)
    assert (parts.heldout_x >= 1e6).all()
    assert torch.equal((parts.heldout_x.flatten() - 1e6).long() % 10, parts.heldout_y)
    assert torch.equal(parts.heldout_x, again.heldout_x)
    assert count == 1 or not torch.equal(parts.heldout_x, other.heldout_x)
