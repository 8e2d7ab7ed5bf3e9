"""Images in another size are those that Pillow's resize makes of them."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.numpy import save_file
from support.cifar import packed
from support.pictures import folder, noise, numbered, png

from jobs.problems import ProblemError
from worker import datasets, resizing
from worker.resizing import resized
from worker.sandbox import Limits, read_upload

Read = Callable[[dict[str, bytes]], Path]


@pytest.fixture
def read(tmp_path: Path) -> Read:
    """Uploads files as a zip and returns what the sandbox made of them."""

    def inspect(files: dict[str, bytes]) -> Path:
        out, source = tmp_path / "out", tmp_path / "source"
        out.mkdir()
        source.write_bytes(packed(files, "zip"))
        return read_upload(source, "dataset", "images.zip", out, Limits()).tensors

    return inspect


def by_pillow(pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """(height, width, 3) or (height, width) in another size."""
    return np.asarray(Image.fromarray(pixels).resize(size[::-1], Image.Resampling.BILINEAR))


def require_close(found: torch.Tensor, expected: np.ndarray) -> None:
    """Pillow rounds between rows and columns, so a level may differ."""
    assert found.shape == expected.shape
    assert np.abs(found.numpy().astype(int) - expected.astype(int)).max() <= 1


@pytest.mark.parametrize("size", [(12, 10), (3, 4), (17, 5), (1, 1), (9, 7)])
@pytest.mark.parametrize("channels", [1, 3])
def test_images_are_stretched_as_pillow_does(size: tuple[int, int], channels: int):
    images = np.stack([noise(9, 7, channels, seed) for seed in range(3)])
    expected = np.stack([by_pillow(image, size) for image in images])
    if channels == 1:
        require_close(resized(torch.from_numpy(images), size), expected)
        return
    found = resized(torch.from_numpy(images).permute(0, 3, 1, 2), size)  # (N, 3, height, width)
    assert found.dtype == torch.uint8
    require_close(found, expected.transpose(0, 3, 1, 2))


def test_floating_samples_are_not_rounded():
    images = torch.rand(2, 1, 8, 8)
    found = resized(images, (4, 4))
    assert found.dtype == torch.float32
    assert found.unique().numel() == 32
    assert images.amin() <= found.amin()


def test_images_in_parts_are_those_in_one(monkeypatch: pytest.MonkeyPatch):
    images = torch.from_numpy(noise(10, 5, 6, 0)).unsqueeze(1)  # (10, 1, 5, 6)
    whole = resized(images, (4, 3))
    monkeypatch.setattr(resizing, "_PART", 60)
    assert torch.equal(resized(images, (4, 3)), whole)


def test_images_of_several_sizes_become_one(read: Read):
    shapes = [(6, 5), (9, 4), (2, 2), (6, 5), (12, 20), (6, 6)]
    paths = [*numbered("train/cat", 2), *numbered("train/dog", 2), *numbered("test/dog", 2)]
    pixels = [noise(*shape, 3, seed) for seed, shape in enumerate(shapes)]
    path = read({name: png(image) for name, image in zip(paths, pixels, strict=True)})
    dataset = datasets.load(path, resize=[7, 6])
    expected = np.stack([by_pillow(image, (7, 6)) for image in pixels]).transpose(0, 3, 1, 2)
    for found, own in ((dataset.train_x, expected[:4]), (dataset.test_x, expected[4:])):
        require_close((found * 255).round(), own)
    assert dataset.train_y.tolist() == [0, 0, 1, 1]
    assert dataset.classes == 2


def test_images_of_several_sizes_may_have_a_validation_split(read: Read):
    paths = [*numbered("train/cat", 2), *numbered("train/dog", 2), *numbered("test/dog", 1), *numbered("val/dog", 1)]
    pixels = [noise(6, 5, 3, seed) for seed in range(5)] + [noise(3, 8, 3, 5)]
    path = read({name: png(image) for name, image in zip(paths, pixels, strict=True)})
    dataset = datasets.load(path, resize=[7, 6])
    assert dataset.val_x is not None
    assert dataset.val_y is not None
    require_close((dataset.val_x * 255).round(), by_pillow(pixels[5], (7, 6)).transpose(2, 0, 1)[None])
    assert dataset.val_y.tolist() == [1]
    with pytest.raises(ProblemError, match=r"train image 0 is 6 x 5 .*, val image 0 is 3 x 8"):
        datasets.load(path)


def test_images_of_several_sizes_need_one(read: Read):
    path = read(folder(SPLIT) | {"test/cat/0.png": png(noise(3, 8, 3, 9))})
    with pytest.raises(ProblemError) as caught:
        datasets.load(path)
    assert caught.value.code == "dataset_mismatch"
    assert "train image 0 is 6 x 5" in caught.value.detail
    assert "test image 0 is 3 x 8" in caught.value.detail
    assert caught.value.errors[0].pointer == "/image/resize"


SPLIT = [*numbered("train/cat", 2), *numbered("train/dog", 2), *numbered("test/cat", 1)]


def test_images_of_one_size_may_be_resized_too(read: Read):
    path = read(folder(SPLIT))
    assert datasets.load(path).train_x.shape == (4, 3, 6, 5)
    assert datasets.load(path, {"mean": [0.5], "std": [0.5]}, [8, 8]).train_x.shape == (4, 3, 8, 8)


def test_the_digits_may_be_resized():
    assert datasets.load("digits", resize=(16, 16)).test_x.shape == (360, 1, 16, 16)
    assert datasets.load("digits").test_x.shape == (360, 1, 8, 8)


def test_samples_that_are_no_images_cannot_be_resized():
    with pytest.raises(ProblemError, match=r"got samples of shape \(5,\)") as caught:
        resized(torch.zeros(3, 5), (2, 2))
    assert caught.value.code == "dataset_mismatch"


def test_more_than_memory_can_hold_is_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(resizing, "MAX_NUMBERS", 1000)
    with pytest.raises(ProblemError, match="got 1200") as caught:
        resized(torch.zeros(3, 4, 2, 2, dtype=torch.uint8), (10, 10))
    assert caught.value.code == "resource_limit"


@pytest.mark.parametrize("sizes", [[[2, 2], [2, 3]], [[2, 2], [-2, -2]], [[4, 4], [0, 5]], [[2**40, 2**40]] * 2])
def test_sizes_that_do_not_fit_the_pixels_are_refused(tmp_path: Path, sizes: list[list[int]]):
    arrays = {"pixels": np.zeros(24, np.uint8), "sizes": np.array(sizes), "y": np.zeros(2, np.int64)}
    path = tmp_path / "checked.safetensors"
    save_file({f"{split}_{name}": array for name, array in arrays.items() for split in ("train", "test")}, path)
    with pytest.raises(ProblemError) as caught:
        datasets.load(path, resize=[2, 2])
    assert caught.value.code == "dataset_invalid"
