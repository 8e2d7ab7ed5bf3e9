"""Data sets as training takes them: scaled, normalised, shaped for the model, and always the same."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file
from sklearn.datasets import load_digits
from torch import Tensor, nn

from jobs import catalogue
from jobs.problems import ProblemError
from worker import datasets
from worker.architectures import Architecture
from worker.datasets import Dataset


def write(path: Path, shape: tuple[int, ...] = (4, 4), dtype: str = "u1", labels: tuple[int, ...] = (0, 1, 2)) -> Path:
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (len(labels), *shape)).astype(dtype)
    y = np.array(labels, np.int64)
    save_file({"train_x": x, "train_y": y, "test_x": x[:2].copy(), "test_y": y[:2].copy()}, path)
    return path


def architecture(input_shape: tuple[int, ...], classes: int = 3) -> Architecture:
    return Architecture("some", nn.Identity(), input_shape, {"classes": classes})


def test_8_bit_images_are_scaled_to_0_to_1(tmp_path: Path):
    path = write(tmp_path / "d")
    dataset = datasets.load(path)
    expected = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (3, 4, 4)).astype(np.float32) / 255)
    torch.testing.assert_close(dataset.train_x, expected, rtol=0, atol=1e-7)
    assert dataset.train_x.dtype == torch.float32
    assert dataset.train_y.tolist() == [0, 1, 2]
    assert dataset.test_y.tolist() == [0, 1]
    assert dataset.classes == 3


def test_float_samples_are_left_as_they_are(tmp_path: Path):
    dataset = datasets.load(write(tmp_path / "d", dtype="f4"))
    assert dataset.train_x.max() > 1


def test_a_path_may_come_as_text(tmp_path: Path):
    path = write(tmp_path / "d")
    assert torch.equal(datasets.load(str(path)).train_x, datasets.load(path).train_x)


@pytest.mark.parametrize("shape", [(4, 4), (2, 4, 4), (5,)])
def test_one_mean_and_deviation_apply_to_all(tmp_path: Path, shape: tuple[int, ...]):
    path = write(tmp_path / "d", shape)
    plain, normalized = datasets.load(path), datasets.load(path, {"mean": [0.5], "std": [0.25]})
    torch.testing.assert_close(normalized.train_x, (plain.train_x - 0.5) / 0.25)
    torch.testing.assert_close(normalized.test_x, (plain.test_x - 0.5) / 0.25)


def test_each_channel_has_its_own_mean_and_deviation(tmp_path: Path):
    path = write(tmp_path / "d", (2, 4, 4))
    plain, normalized = datasets.load(path), datasets.load(path, {"mean": [0.1, 0.2], "std": [0.5, 2.0]})
    for channel, (mean, std) in enumerate([(0.1, 0.5), (0.2, 2.0)]):
        torch.testing.assert_close(normalized.train_x[:, channel], (plain.train_x[:, channel] - mean) / std)


@pytest.mark.parametrize(
    ("shape", "normalize", "said"),
    [
        ((2, 4, 4), {"mean": [0.0] * 3, "std": [1.0] * 3}, "expected 1 number or 2"),
        ((4, 4), {"mean": [0.0] * 4, "std": [1.0] * 4}, "expected 1 number or 1"),
        ((4, 4), {"mean": [0.0], "std": [0.0]}, "above 0"),
    ],
)
def test_a_normalisation_that_does_not_fit_is_refused(tmp_path: Path, shape, normalize, said: str):
    with pytest.raises(ProblemError, match=said) as caught:
        datasets.load(write(tmp_path / "d", shape), normalize)
    assert caught.value.code == "dataset_mismatch"


def test_a_validation_split_is_treated_as_the_others(tmp_path: Path):
    plain = load_file(write(tmp_path / "d", (4, 4)))
    save_file(plain | {"val_x": plain["train_x"][1:].copy(), "val_y": np.array([2, 4])}, tmp_path / "v")
    dataset = datasets.load(tmp_path / "v", {"mean": [0.1], "std": [0.5]}, [8, 6])
    found = datasets.fitted(dataset, architecture((1, 8, 6), 5))
    assert (found.classes, found.train_x.shape) == (5, (3, 1, 8, 6))
    assert found.val_x is not None
    assert torch.equal(found.val_x, found.train_x[1:])
    with pytest.raises(ProblemError, match="val_y: expected labels from 0 to 3"):
        datasets.fitted(dataset, architecture((1, 8, 6), 4))


def test_an_unknown_name_is_told_what_is_known():
    with pytest.raises(ProblemError, match="digits") as caught:
        datasets.load("imagenet")
    assert caught.value.code == "unknown_dataset"


def test_digits_are_those_of_scikit_learn_in_a_fixed_stratified_split():
    dataset = datasets.load("digits")
    images, labels = load_digits(return_X_y=True)
    both = torch.cat([dataset.train_x, dataset.test_x])
    assert dataset.train_x.shape[1:] == (1, 8, 8)
    assert both.max() == 1.0
    assert row_counts(both * 16) == row_counts(torch.from_numpy(images))
    expected = np.bincount(labels) / len(labels)
    for part in (dataset.train_y, dataset.test_y):
        np.testing.assert_allclose(np.bincount(part) / len(part), expected, atol=2e-3)
    datasets.digits.cache_clear()
    assert torch.equal(datasets.load("digits").test_x, dataset.test_x)


def row_counts(x: Tensor) -> list[list[float]]:
    return sorted(x.reshape(len(x), -1).tolist())


def test_digits_are_what_the_service_says():
    known, dataset = catalogue.DATASETS["digits"], datasets.load("digits")
    assert set(datasets.NAMED) == set(catalogue.DATASETS)
    assert (len(dataset.train_x), len(dataset.test_x)) == (known.train, known.test)
    assert tuple(dataset.train_x.shape[1:]) == known.shape
    assert dataset.classes == known.classes


def small(shape: tuple[int, ...], labels: tuple[int, ...] = (0, 1, 2)) -> Dataset:
    x, y = torch.rand(len(labels), *shape), torch.tensor(labels)
    return Dataset(x, y, x, y, 1 + max(labels))


def test_images_get_the_channel_that_the_model_wants():
    dataset = small((4, 5))
    fitted = datasets.fitted(dataset, architecture((1, 4, 5)))
    assert torch.equal(fitted.train_x, dataset.train_x[:, None])
    assert torch.equal(fitted.test_x, dataset.test_x[:, None])


def test_samples_that_fit_are_left_alone():
    dataset = small((1, 4, 5))
    assert datasets.fitted(dataset, architecture((1, 4, 5))) is dataset


@pytest.mark.parametrize("shape", [(4, 5), (3, 4, 5), (1, 5, 4), (20,)])
def test_samples_of_another_shape_are_refused(shape: tuple[int, ...]):
    with pytest.raises(ProblemError) as caught:
        datasets.fitted(small(shape), architecture((2, 4, 5)))
    assert caught.value.code == "dataset_mismatch"
    assert str(shape) in caught.value.detail
    assert "(2, 4, 5)" in caught.value.detail


def test_labels_beyond_the_models_classes_are_refused():
    with pytest.raises(ProblemError) as caught:
        datasets.fitted(small((4,), (0, 3)), architecture((4,), classes=3))
    assert caught.value.code == "labels_out_of_range"
    assert "from 0 to 2" in caught.value.detail
    assert "got 3" in caught.value.detail
