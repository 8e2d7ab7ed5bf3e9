"""Augmented batches hold what padding, cutting and mirroring by hand make of them, as the generator says."""

import pytest
import torch
from torch import Tensor

from jobs.problems import ProblemError
from jobs.schemas.settings import JobSettings
from worker.augmentation import augmentation

FILE = "file_" + "0" * 32


def settings(**given: object) -> JobSettings:
    return JobSettings.model_validate({"checkpoint": FILE} | given)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def augmented(batch: Tensor, seed: int = 0, **given: object) -> Tensor:
    transform = augmentation(settings(**given), tuple(batch.shape[1:]))
    assert transform is not None
    return transform(batch, generator(seed))


def crops(image: Tensor, padding: int, black: Tensor) -> list[Tensor]:
    """All crops of one image (channels, height, width), cut one by one."""
    channels, height, width = image.shape
    padded = black.reshape(-1, 1, 1) * torch.ones(channels, height + 2 * padding, width + 2 * padding)
    padded[:, padding : padding + height, padding : padding + width] = image
    places = [(top, left) for top in range(2 * padding + 1) for left in range(2 * padding + 1)]
    return [padded[:, top : top + height, left : left + width] for top, left in places]


@pytest.mark.parametrize("normalize", [None, {"mean": [0.5, 0.25, 0.1], "std": [0.5, 0.5, 0.2]}])
def test_a_crop_is_one_of_all_crops_and_each_comes_up(normalize: dict[str, list[float]] | None):
    batch = torch.rand(600, 3, 4, 5)
    black = torch.tensor([-1.0, -0.5, -0.5]) if normalize else torch.zeros(3)
    found = augmented(batch, augment={"crop": 1}, normalize=normalize)
    seen = set()
    for image, result in zip(batch, found, strict=True):
        matching = [n for n, crop in enumerate(crops(image, 1, black)) if torch.equal(crop, result)]
        assert len(matching) == 1
        seen.update(matching)
    assert seen == set(range(9))


def test_a_flip_mirrors_about_half_of_the_images_left_to_right():
    batch = torch.rand(1000, 1, 3, 4)
    found = augmented(batch, augment={"flip": True})
    mirrored = [bool(torch.equal(result, image.flip(2))) for image, result in zip(batch, found, strict=True)]
    same = [bool(torch.equal(result, image)) for image, result in zip(batch, found, strict=True)]
    assert all(one != other for one, other in zip(mirrored, same, strict=True))
    assert 400 < sum(mirrored) < 600


def test_both_together_are_a_crop_that_may_be_mirrored():
    batch = torch.rand(50, 1, 4, 4)
    found = augmented(batch, augment={"crop": 2, "flip": True})
    for image, result in zip(batch, found, strict=True):
        possible = crops(image, 2, torch.zeros(1))
        assert any(torch.equal(result, crop) or torch.equal(result, crop.flip(2)) for crop in possible)


@pytest.mark.parametrize("shape", [(4, 5), (1, 4, 5), (3, 4, 5)])
def test_shape_and_dtype_stay_and_the_batch_too(shape: tuple[int, ...]):
    batch = torch.rand(7, *shape, dtype=torch.float64)
    before = batch.clone()
    found = augmented(batch, augment={"crop": 2, "flip": True}, normalize={"mean": [0.5], "std": [0.5]})
    assert found.shape == batch.shape
    assert found.dtype == batch.dtype
    assert torch.equal(batch, before)


def test_the_generator_alone_decides():
    batch = torch.rand(20, 3, 8, 8)
    torch.manual_seed(1)
    first = augmented(batch, 5, augment={"crop": 2, "flip": True})
    state = torch.get_rng_state()
    torch.manual_seed(2)
    assert torch.equal(augmented(batch, 5, augment={"crop": 2, "flip": True}), first)
    assert not torch.equal(augmented(batch, 6, augment={"crop": 2, "flip": True}), first)
    torch.manual_seed(1)
    assert torch.equal(torch.get_rng_state(), state)


def test_nothing_is_done_where_nothing_is_asked_for():
    assert augmentation(settings(), (3, 8, 8)) is None
    assert augmentation(settings(augment={"crop": 0}), (3, 8, 8)) is None


@pytest.mark.parametrize("shape", [(64,), (2, 3, 8, 8)])
def test_samples_that_are_no_images_are_refused(shape: tuple[int, ...]):
    with pytest.raises(ProblemError, match="expected images") as caught:
        augmentation(settings(augment={"flip": True}), shape)
    assert caught.value.code == "dataset_mismatch"
    assert caught.value.errors[0].pointer == "/augment"
