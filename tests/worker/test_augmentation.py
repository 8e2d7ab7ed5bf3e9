"""Augmented batches hold what scipy's affine maps, and padding, cutting and mirroring by hand, make of them."""

import math

import numpy as np
import pytest
import torch
from scipy.ndimage import affine_transform
from torch import Tensor

from jobs.problems import ProblemError
from jobs.schemas.settings import JobSettings
from worker.augmentation import augmentation, distorted

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


@pytest.mark.parametrize("shape", [(9, 14), (1, 9, 14), (3, 12, 12)])
def test_a_distorted_image_is_what_an_affine_map_of_its_pixels_makes_of_it(shape: tuple[int, ...]):
    images = torch.rand(6, *shape, dtype=torch.float64, generator=generator())
    angles = torch.tensor([0.0, 0.3, -0.3, math.pi / 2, 0.0, 0.7], dtype=torch.float64)
    factors = torch.tensor([[1, 1], [1, 1], [0.8, 1.3], [1, 1], [1.4, 0.6], [1.2, 1.2]], dtype=torch.float64)
    black = torch.tensor([-0.5, 0.1, -2.0][: shape[0] if len(shape) == 3 else 1])
    found = distorted(images, angles, factors, black)
    assert found.shape == images.shape
    centre = (np.array(shape[-2:]) - 1) / 2
    for image, result, angle, (tall, wide) in zip(
        images.reshape(6, -1, *shape[-2:]), found.reshape(6, -1, *shape[-2:]), angles, factors, strict=True
    ):
        cosine, sine = math.cos(angle), math.sin(angle)  # rows grow downwards
        turned_back = np.array([[cosine, sine], [-sine, cosine]])
        back = np.diag([1 / tall, 1 / wide]) @ turned_back
        for plane, own, level in zip(image, result, black.tolist(), strict=True):
            expected = affine_transform(
                plane.numpy(), back, centre - back @ centre, order=1, mode="grid-constant", cval=level
            )
            np.testing.assert_allclose(own.numpy(), expected, atol=1e-6)


def test_a_quarter_turn_is_counter_clockwise():
    image = torch.rand(1, 5, 5)
    found = distorted(image, torch.tensor([math.pi / 2]), torch.ones(1, 2), torch.zeros(1))
    torch.testing.assert_close(found, torch.rot90(image, 1, (1, 2)), atol=1e-5, rtol=0)


def test_images_are_turned_and_stretched_within_the_limits_and_each_differently():
    batch = torch.zeros(400, 1, 41, 41)
    batch[:, :, 20, 30] = 1.0  # one bright pixel, ten to the right of the centre
    where = torch.arange(41.0) - 20
    turned = augmented(batch, augment={"rotate": 30}).squeeze(1)
    rows = (turned.sum(2) @ where) / turned.sum((1, 2))
    columns = (turned.sum(1) @ where) / turned.sum((1, 2))
    angles = torch.rad2deg(torch.atan2(-rows, columns))
    assert 20 < angles.max() < 33  # a pixel is some degrees wide
    assert -33 < angles.min() < -20
    stretched = augmented(batch, augment={"stretch": 0.3}).squeeze(1)
    columns = (stretched.sum(1) @ where) / stretched.sum((1, 2))
    assert 12 < columns.max() < 13.6
    assert 6.4 < columns.min() < 8


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
