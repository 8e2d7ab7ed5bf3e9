import io
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bench.paper.baseline import untrained
from bench.paper.data import pack, read
from bench.paper.page import line, note, published, table
from bench.paper.rows import CLASSES, LINEAR, ROWS, SHAPES, Row, Training, training_of

BY_NAME = {row.name: row for row in ROWS}
HEADLINE = BY_NAME["vgg16-mnist-32-classifier.0-classifier.3"]


def result(**change: Any) -> dict[str, Any]:
    return {
        "provenance": {"commit": "0123456789ab", "machine": {"cores": 2, "processor": "CPU"}, "seeds": [0]},
        "images": 20_000,
        "epochs": 3,
        "original": 18_874_368,
        "compressed": 420,
        "baseline": 0.991,
        "after_fit": 0.2,
        "final": 0.9925,
        "samples": 10_000,
        "interval_95": {"final": [0.9906, 0.994]},
        "seconds": {"job": 1234.5},
        **change,
    }


def test_rows_have_names_of_their_own_and_a_training_each() -> None:
    assert len(BY_NAME) == len(ROWS)
    assert {row.network for row in ROWS} == {"fc2", "lenet5", "alexnet", "zfnet", "vgg16"}
    for row in ROWS:
        assert training_of(row).images >= 20_000


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_the_layers_of_a_row_are_in_its_network(row: Row) -> None:
    with torch.device("meta"):
        model = untrained(row)
    shapes = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    names = [name for item in row.layers for name in ([item] if isinstance(item, str) else item)]
    for name in names:
        assert len(shapes[f"{name}.weight"]) >= 2
    if row.network == "vgg16" and set(names) == set(LINEAR["vgg16"]):
        assert [shapes[f"{name}.weight"] for name in names] == [(4096, 512), (4096, 4096)]
    assert model(torch.empty(2, *SHAPES[row.data], device="meta")).shape == (2, CLASSES[row.data])


def test_a_row_that_was_run_stands_beside_what_the_paper_says() -> None:
    assert line(HEADLINE, result()) == (
        "| VGG-16, MNIST padded to 32 x 32: classifier.0, classifier.3 | 18,874,368 | 424 | 420 | 99.10 | 20.00 "
        "| **99.25** | 424, 90.17 → 91.74 (CIFAR-10) | 1,234 |"
    )
    assert "trained for 3 epochs on 20,000 images" in note({HEADLINE.name: result()})
    assert published(None) == "not in its abstract"


def test_a_row_that_was_not_run_says_what_it_takes() -> None:
    assert "not run: give `--cifar-10 ARCHIVE`" in line(BY_NAME["vgg16-cifar-10-classifier.0-classifier.3"], None)
    assert "not run: give `--mnist FOLDER`" in line(HEADLINE, None)
    assert len(table({HEADLINE.name: result()}).splitlines()) == 2 + len(ROWS)
    assert len(table({HEADLINE.name: result()}, only_run=True).splitlines()) == 3


def write_idx(folder: Path, name: str, array: np.ndarray) -> None:
    header = bytes([0, 0, 8, array.ndim]) + b"".join(size.to_bytes(4, "big") for size in array.shape)
    (folder / name).write_bytes(header + array.tobytes())


def test_mnist_is_padded_with_zeros_and_cut(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(1, 256, (6, 28, 28), np.uint8)
    for part in ("train", "t10k"):
        write_idx(tmp_path, f"{part}-images-idx3-ubyte", pixels)
        write_idx(tmp_path, f"{part}-labels-idx1-ubyte", np.arange(6, dtype=np.uint8))
    images = read("mnist-32", {"mnist": tmp_path}, Training(4, 1))
    assert tuple(images.train.images.shape) == (4, 1, 32, 32)
    assert tuple(images.test.images.shape) == (6, 1, 32, 32)
    assert np.array_equal(images.test.images[:, 0, 2:-2, 2:-2].numpy(), pixels)
    assert int(images.test.images.sum()) == int(pixels.astype(np.int64).sum())
    pack(images, tmp_path / "images.npz")
    with np.load(tmp_path / "images.npz") as packed:
        assert packed["train_x"].dtype == np.uint8
        assert packed["train_y"].tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("kind", ["zip", "tar.gz"])
@pytest.mark.parametrize(("data", "names", "labels"), [("cifar-10", 5, 1), ("cifar-100", 1, 2)])
def test_the_binary_archives_are_read(tmp_path: Path, kind: str, data: str, names: int, labels: int) -> None:
    numbers = np.random.default_rng(0)
    train = [f"data_batch_{i + 1}.bin" for i in range(names)] if names > 1 else ["train.bin"]
    files = {}
    for name in [*train, "test_batch.bin" if names > 1 else "test.bin"]:
        files[name] = numbers.integers(0, 10, (3, labels + 3072), np.uint8)
    path = tmp_path / f"archive.{kind}"
    if kind == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in files.items():
                archive.writestr(f"folder/{name}", content.tobytes())
    else:
        with tarfile.open(path, "w:gz") as archive:
            for name, content in files.items():
                info = tarfile.TarInfo(f"folder/{name}")
                info.size = content.nbytes
                archive.addfile(info, io.BytesIO(content.tobytes()))
    images = read(data, {data: path}, Training(100, 1))
    expected = np.concatenate([files[name] for name in train])
    assert images.train.labels.tolist() == expected[:, labels - 1].tolist()
    assert np.array_equal(images.train.images.reshape(-1, 3072).numpy(), expected[:, labels:])
    assert len(images.test.labels) == 3
