"""CIFAR-10 and CIFAR-100 in every form come out with the pixels and labels that went in."""

import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file
from support import cifar
from support.cifar import Batch

from worker import datasets
from worker.sandbox import Inspection, Limits, read_upload

Read = Callable[[bytes], Inspection]


@pytest.fixture
def read(tmp_path: Path) -> Read:
    def inspect(data: bytes) -> Inspection:
        out, source = tmp_path / "out", tmp_path / "source"
        out.mkdir()
        source.write_bytes(data)
        return read_upload(source, "dataset", "no_hint", out, Limits())

    return inspect


def require_same(found: Inspection, train: list[Batch], test: Batch, classes: int) -> None:
    stored = load_file(found.tensors)
    for split, batches in (("train", train), ("test", [test])):
        pixels = np.concatenate([batch.pixels for batch in batches])
        images = stored[f"{split}_x"]
        assert images.dtype == np.uint8
        assert images.shape == (len(pixels), 3, 32, 32)
        # Planes of red, green, blue, each row by row.
        np.testing.assert_array_equal(images[:, 1, 5, 7], pixels[:, 1024 + 5 * 32 + 7])
        np.testing.assert_array_equal(images.reshape(len(pixels), 3072), pixels)
        assert stored[f"{split}_y"].tolist() == [label for batch in batches for label in batch.labels]
    assert found.summary["splits"] == {"train": sum(len(batch.labels) for batch in train), "test": len(test.labels)}
    assert found.summary["shape"] == [3, 32, 32]
    assert found.summary["classes"] == classes
    assert found.summary["class_names"] == cifar.names(classes)


def test_the_writer_of_these_tests_writes_what_python_reads():
    value = {"labels": [1, 2], "data": np.arange(6, dtype=np.uint8).reshape(2, 3), "num": 10000}
    read = pickle.loads(cifar.python2_pickle(value), encoding="latin1")
    np.testing.assert_array_equal(read.pop("data"), value["data"])
    assert read == {"labels": [1, 2], "num": 10000}


@pytest.mark.parametrize("kind", ["tar.gz", "tar", "zip"])
@pytest.mark.parametrize("style", cifar.PICKLES)
def test_cifar_10_in_the_python_version_is_read(read: Read, style: str, kind: str):
    batches = cifar.ten_batches()
    found = read(cifar.packed(cifar.cifar10_python(batches, cifar.PICKLES[style]), kind))
    assert found.format == "cifar_python"
    *train, test = batches.values()
    require_same(found, train, test, 10)


@pytest.mark.parametrize("kind", ["tar.gz", "tar", "zip"])
def test_cifar_10_in_the_binary_version_is_read(read: Read, kind: str):
    batches = cifar.ten_batches()
    found = read(cifar.packed(cifar.cifar10_binary(batches), kind))
    assert found.format == "cifar_binary"
    *train, test = batches.values()
    require_same(found, train, test, 10)


@pytest.mark.parametrize("style", ["python2", "protocol4", "binary"])
def test_cifar_100_is_read_with_its_fine_labels(read: Read, style: str):
    batches = cifar.hundred_batches()
    binary = style == "binary"
    files = cifar.cifar100_binary(batches) if binary else cifar.cifar100_python(batches, cifar.PICKLES[style])
    found = read(cifar.packed(files, "tar.gz"))
    assert found.format == ("cifar_binary" if binary else "cifar_python")
    require_same(found, [batches["train"]], batches["test"], 100)
    assert "fine" in found.summary["notes"][0]


def test_batches_come_in_their_order_wherever_they_stand(read: Read):
    batches = cifar.ten_batches()
    files = cifar.cifar10_python(batches)
    *train, test = batches.values()
    require_same(read(cifar.packed(dict(reversed(files.items())), "tar.gz")), train, test, 10)


@pytest.mark.parametrize("style", ["protocol2", "protocol4", "protocol5"])
def test_pixels_may_be_pickled_column_by_column(read: Read, style: str):
    batches = cifar.hundred_batches()
    columns = {name: replace(batch, pixels=np.asfortranarray(batch.pixels)) for name, batch in batches.items()}
    files = cifar.cifar100_python(columns, cifar.PICKLES[style])
    require_same(read(cifar.packed(files, "zip")), [batches["train"]], batches["test"], 100)


@pytest.mark.parametrize(
    "pickled",
    [
        pickle.dumps({"label_names": cifar.names(10), "num_vis": 3072}, 0),
        pickle.dumps({"label_names": cifar.names(10), "num_vis": 3072}, 1),
        b"(dp0\nS'num_vis'\np1\nI3072\nsS'label_names'\np2\n(lp3\n"
        + b"".join(b"S'class_%d'\np%d\na" % (number, 4 + number) for number in range(10))
        + b"s.",
    ],
    ids=["protocol0", "protocol1", "python2"],
)
def test_names_of_classes_may_be_pickled_as_text(read: Read, pickled: bytes):
    files = cifar.cifar10_python(cifar.ten_batches()) | {"cifar-10-batches-py/batches.meta": pickled}
    assert read(cifar.packed(files, "zip")).summary["class_names"] == cifar.names(10)


def test_names_of_classes_may_be_missing(read: Read):
    files = cifar.cifar10_python(cifar.ten_batches())
    del files["cifar-10-batches-py/batches.meta"]
    assert read(cifar.packed(files, "zip")).summary["class_names"] == []


def test_what_was_read_is_what_training_takes(read: Read):
    batches = cifar.hundred_batches()
    dataset = datasets.load(read(cifar.packed(cifar.cifar100_python(batches), "tar.gz")).tensors)
    expected = batches["test"].pixels.reshape(-1, 3, 32, 32).astype(np.float32) / 255
    np.testing.assert_allclose(dataset.test_x.numpy(), expected, atol=1e-7)
    assert dataset.test_y.tolist() == batches["test"].labels
