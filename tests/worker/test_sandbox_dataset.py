"""Data sets in every form that is accepted come out with the numbers that numpy reads."""

import gzip
import io
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file
from safetensors.torch import save_file as save_torch

from jobs.problems import ProblemError
from worker.sandbox import Inspection, Limits, read_upload

Arrays = dict[str, np.ndarray[Any, Any]]


@pytest.fixture
def arrays() -> Arrays:
    rng = np.random.default_rng(0)
    return {
        "train_x": rng.integers(0, 256, (50, 6, 7), dtype=np.uint8),
        "train_y": rng.integers(0, 4, 50, dtype=np.uint8),
        "test_x": rng.integers(0, 256, (20, 6, 7), dtype=np.uint8),
        "test_y": np.arange(20, dtype=np.uint8) % 5,
    }


@pytest.fixture
def read(tmp_path: Path) -> Callable[[Path], Inspection]:
    def inspect(source: Path) -> Inspection:
        out = tmp_path / "out"
        out.mkdir()
        return read_upload(source, "dataset", "no_hint", out, Limits())

    return inspect


def idx(array: np.ndarray[Any, Any], kind: int = 0x08) -> bytes:
    big_endian = array.astype(array.dtype.newbyteorder(">"))
    return bytes([0, 0, kind, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + big_endian.tobytes()


def mnist_files(arrays: Arrays, style: str) -> dict[str, bytes]:
    """The four files under the names that people have them."""
    names = {"train_x": "train-images", "train_y": "train-labels", "test_x": "t10k-images", "test_y": "t10k-labels"}
    files = {}
    for name, stem in names.items():
        rank = 3 if name.endswith("x") else 1
        content = idx(arrays[name])
        if style == "gz":
            files[f"{stem}-idx{rank}-ubyte.gz"] = gzip.compress(content)
        elif style == "dotted":
            files[f"MNIST/raw/{stem}.idx{rank}-ubyte"] = content
        else:
            files[f"./data/{stem}-idx{rank}-ubyte"] = content
    return files | {"README": b"not looked at", "__MACOSX/._train-images-idx3-ubyte": b"not either"}


def write_archive(path: Path, files: dict[str, bytes], kind: str) -> None:
    if kind == "zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in files.items():
                archive.writestr(name, content)
        return
    with tarfile.open(path, "w:gz" if kind == "tar.gz" else "w") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))


def require_same(found: Inspection, arrays: Arrays, dtype: str) -> None:
    stored = load_file(found.tensors)
    assert stored.keys() == arrays.keys()
    for name, array in arrays.items():
        expected = array.astype(np.int64 if name.endswith("y") else dtype)
        assert stored[name].dtype == expected.dtype, name
        np.testing.assert_array_equal(stored[name], expected)
    assert found.summary == {
        "splits": {"train": 50, "test": 20} | ({"val": len(arrays["val_y"])} if "val_y" in arrays else {}),
        "shape": list(arrays["train_x"].shape[1:]),
        "classes": 5,
        "dtype": dtype,
        "class_names": [],
        "notes": [],
    }
    assert found.layers == []
    assert found.aliases == {}


@pytest.mark.parametrize("kind", ["npz", "safetensors"])
def test_a_validation_split_is_kept(tmp_path: Path, read: Any, arrays: Arrays, kind: str):
    rng = np.random.default_rng(1)
    arrays |= {"val_x": rng.integers(0, 256, (7, 6, 7), dtype=np.uint8), "val_y": np.arange(7, dtype=np.uint8) % 4}
    path = tmp_path / "data"
    if kind == "npz":
        with path.open("wb") as file:
            np.savez(file, **arrays)
    else:
        save_file(arrays, path)
    require_same(read(path), arrays, "uint8")


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"val_y": None}, "val_y is missing"),
        ({"val_x": None}, "val_x is missing"),
        ({"val_x": np.zeros((7, 6, 6), np.uint8)}, r"val_x: expected samples of shape \(6, 7\)"),
        ({"val_y": np.zeros(6, np.uint8)}, "val: expected a label a sample, got 7 samples, 6 labels"),
        ({"val_x": np.zeros((7, 6, 7), np.float32)}, "train_x, val_x, test_x all as 8-bit images or none"),
    ],
)
def test_a_validation_split_that_does_not_fit_is_refused(
    tmp_path: Path, read: Any, arrays: Arrays, changed: dict[str, Any], said: str
):
    whole = arrays | {"val_x": np.zeros((7, 6, 7), np.uint8), "val_y": np.zeros(7, np.uint8)} | changed
    save_file({name: array for name, array in whole.items() if array is not None}, tmp_path / "data")
    with pytest.raises(ProblemError, match=said) as caught:
        read(tmp_path / "data")
    assert caught.value.code == "dataset_invalid"


@pytest.mark.parametrize("kind", ["zip", "tar", "tar.gz"])
@pytest.mark.parametrize("style", ["plain", "gz", "dotted"])
def test_archives_of_idx_files_are_read(tmp_path: Path, read: Any, arrays: Arrays, kind: str, style: str):
    path = tmp_path / "data"
    write_archive(path, mnist_files(arrays, style), kind)
    found = read(path)
    assert found.format == "idx"
    require_same(found, arrays, "uint8")


@pytest.mark.parametrize("first", ["plain", "packed"])
def test_of_a_file_that_lies_beside_its_packed_self_the_former_is_read(
    tmp_path: Path, read: Any, arrays: Arrays, first: str
):
    plain = mnist_files(arrays, "plain")
    packed = {f"{name}.gz": b"not looked at" for name in plain if name.startswith("./data/")}
    path = tmp_path / "data"
    write_archive(path, {**plain, **packed} if first == "plain" else {**packed, **plain}, "zip")
    require_same(read(path), arrays, "uint8")


@pytest.mark.parametrize(("kind", "dtype"), [(0x09, "i1"), (0x0B, "i2"), (0x0C, "i4"), (0x0D, "f4"), (0x0E, "f8")])
def test_idx_files_of_other_types_become_float32(tmp_path: Path, read: Any, arrays: Arrays, kind: int, dtype: str):
    arrays |= {name: arrays[name].astype(np.float64).astype(dtype) for name in ("train_x", "test_x")}
    files = mnist_files(arrays, "plain")
    files["./data/train-images-idx3-ubyte"] = idx(arrays["train_x"], kind)
    files["./data/t10k-images-idx3-ubyte"] = idx(arrays["test_x"], kind)
    path = tmp_path / "data"
    write_archive(path, files, "zip")
    require_same(read(path), arrays, "float32")


@pytest.mark.parametrize("compressed", [True, False])
@pytest.mark.parametrize("dtype", ["u1", ">f4", "f8", "f2", "i4", "bool"])
def test_npz_files_are_read(tmp_path: Path, read: Any, arrays: Arrays, dtype: str, compressed: bool):
    arrays |= {name: arrays[name].astype(dtype) for name in ("train_x", "test_x")}
    path = tmp_path / "data.npz"
    (np.savez_compressed if compressed else np.savez)(path, **arrays)
    found = read(path)
    assert found.format == "npz"
    require_same(found, arrays, "uint8" if dtype == "u1" else "float32")


def test_labels_may_be_a_column_or_whole_floats(tmp_path: Path, read: Any, arrays: Arrays):
    path = tmp_path / "data.npz"
    column = {"train_y": arrays["train_y"][:, None].astype(np.int32), "test_y": arrays["test_y"].astype(np.float64)}
    np.savez(path, **(arrays | column))
    require_same(read(path), arrays, "uint8")


def test_arrays_in_fortran_order_are_read(tmp_path: Path, read: Any, arrays: Arrays):
    path = tmp_path / "data.npz"
    np.savez(path, **(arrays | {"train_x": np.asfortranarray(arrays["train_x"])}))
    require_same(read(path), arrays, "uint8")


def test_safetensors_files_are_read(tmp_path: Path, read: Any, arrays: Arrays):
    path = tmp_path / "data.safetensors"
    save_file(arrays, path)
    found = read(path)
    assert found.format == "safetensors"
    require_same(found, arrays, "uint8")


def test_bfloat16_samples_are_widened(tmp_path: Path, read: Any, arrays: Arrays):
    tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
    tensors |= {name: tensors[name].bfloat16() / 7 for name in ("train_x", "test_x")}
    path = tmp_path / "data.safetensors"
    save_torch(tensors, path)
    expected = arrays | {name: tensors[name].float().numpy() for name in ("train_x", "test_x")}
    require_same(read(path), expected, "float32")


def test_samples_of_many_blocks_are_read_whole(tmp_path: Path, read: Any, arrays: Arrays):
    rng = np.random.default_rng(1)
    arrays |= {"train_x": rng.standard_normal((50, 65_537)), "test_x": rng.standard_normal((20, 65_537))}
    path = tmp_path / "data.npz"
    np.savez(path, **arrays)
    require_same(read(path), arrays, "float32")
