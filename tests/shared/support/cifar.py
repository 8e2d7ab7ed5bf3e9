"""Archives of CIFAR-10 and CIFAR-100 in every form they are published or saved again in, of a few images."""

import gzip
import io
import pickle
import struct
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
Pickle = Callable[[Mapping[str, Any]], bytes]
CIFAR10 = ("data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5", "test_batch")


@dataclass(frozen=True)
class Batch:
    """Images (N, 3072) uint8 and their labels; the coarse ones only of CIFAR-100."""

    pixels: Array
    labels: list[int]
    coarse: list[int]


def batch(images: int, classes: int, seed: int) -> Batch:
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 256, (images, 3072), dtype=np.uint8)
    return Batch(pixels, rng.integers(0, classes, images).tolist(), rng.integers(0, 20, images).tolist())


def python2_pickle(value: Mapping[str, Any]) -> bytes:
    """As cPickle of Python 2 writes a dict of texts, lists and uint8 arrays under protocol 2, opcode by opcode."""
    writer = Python2Writer()
    writer.put(b"}")
    writer.out += b"("
    for key, entry in value.items():
        writer.text(key)
        writer.item(entry)
    return bytes(writer.out + b"u.")


class Python2Writer:
    """The opcodes of one value after the other; everything but numbers is put into the memo."""

    def __init__(self) -> None:
        self.out = bytearray(b"\x80\x02")
        self.places = iter(range(1, 2**16))

    def put(self, opcodes: bytes) -> None:
        place = next(self.places)
        self.out += opcodes + (b"q" + bytes([place]) if place < 256 else b"r" + struct.pack("<I", place))

    def text(self, value: str | bytes) -> None:
        data = value.encode("latin-1") if isinstance(value, str) else value
        short = len(data) < 256
        self.put((b"U" + bytes([len(data)]) if short else b"T" + struct.pack("<i", len(data))) + data)

    def integer(self, value: int) -> None:
        self.out += b"K" + bytes([value]) if value < 256 else b"M" + struct.pack("<H", value)

    def item(self, value: Any) -> None:
        if isinstance(value, str | bytes):
            self.text(value)
        elif isinstance(value, int):
            self.integer(value)
        elif isinstance(value, list):
            self.put(b"]")
            for start in range(0, len(value), 1000):
                self.out += b"("
                for part in value[start : start + 1000]:
                    self.item(part)
                self.out += b"e"
        else:
            self.array(value)

    def array(self, value: Array) -> None:
        self.put(b"cnumpy.core.multiarray\n_reconstruct\n")
        self.put(b"cnumpy\nndarray\n")
        self.put(b"K\x00\x85")
        self.text("b")
        self.put(b"\x87")
        self.put(b"R")
        self.out += b"(K\x01"
        for size in value.shape:
            self.integer(size)
        self.put(b"\x86" if value.ndim == 2 else b"\x85")
        self.put(b"cnumpy\ndtype\n")
        self.text(value.dtype.str[1:])
        self.put(b"K\x00K\x01\x87")
        self.put(b"R")
        self.out += b"(K\x03"
        self.text("|")
        self.put(b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00t")
        self.out += b"b\x89"
        self.text(value.tobytes())
        self.put(b"t")
        self.out += b"b"


def python3_pickle(protocol: int, byte_keys: bool) -> Pickle:
    """As Python 3 saves again what it read with encoding="bytes" or "latin1"."""

    def dump(value: Mapping[str, Any]) -> bytes:
        encoded = {key.encode() if byte_keys else key: entry for key, entry in value.items()}
        return pickle.dumps(encoded, protocol=protocol)

    return dump


PICKLES: dict[str, Pickle] = {
    "python2": python2_pickle,
    **{f"protocol{number}": python3_pickle(number, number % 2 == 0) for number in (2, 3, 4, 5)},
}


def cifar10_python(batches: Mapping[str, Batch], dump: Pickle = python2_pickle) -> dict[str, bytes]:
    files = {"batches.meta": dump({"num_cases_per_batch": 10000, "label_names": names(10), "num_vis": 3072})}
    for number, (name, found) in enumerate(batches.items(), 1):
        files[name] = dump(
            {
                "batch_label": f"training batch {number} of 5",
                "labels": found.labels,
                "data": found.pixels,
                "filenames": [f"image_{index}.png" for index in range(len(found.labels))],
            }
        )
    return {f"cifar-10-batches-py/{name}": data for name, data in files.items()} | {"readme.html": b"<html>"}


def cifar10_binary(batches: Mapping[str, Batch]) -> dict[str, bytes]:
    files = {f"{name}.bin": records(found.pixels, found.labels) for name, found in batches.items()}
    files["batches.meta.txt"] = "\n".join([*names(10), "", ""]).encode()
    return {f"cifar-10-batches-bin/{name}": data for name, data in files.items()}


def cifar100_python(batches: Mapping[str, Batch], dump: Pickle = python2_pickle) -> dict[str, bytes]:
    files = {"meta": dump({"fine_label_names": names(100), "coarse_label_names": names(20)})}
    for name, found in batches.items():
        files[name] = dump(
            {
                "filenames": [f"image_{index}.png" for index in range(len(found.labels))],
                "batch_label": f"{name} batch 1 of 1",
                "fine_labels": found.labels,
                "coarse_labels": found.coarse,
                "data": found.pixels,
            }
        )
    return {f"cifar-100-python/{name}": data for name, data in files.items()}


def cifar100_binary(batches: Mapping[str, Batch]) -> dict[str, bytes]:
    files = {f"{name}.bin": records(found.pixels, found.coarse, found.labels) for name, found in batches.items()}
    files["fine_label_names.txt"] = "\n".join(names(100)).encode()
    files["coarse_label_names.txt"] = "\n".join(names(20)).encode()
    return {f"cifar-100-binary/{name}": data for name, data in files.items()}


def names(count: int) -> list[str]:
    return [f"class_{number}" for number in range(count)]


def records(pixels: Array, *labels: list[int]) -> bytes:
    columns = [np.array(column, np.uint8)[:, None] for column in labels]
    return np.hstack([*columns, pixels]).tobytes()


def ten_batches(images: int = 4) -> dict[str, Batch]:
    return {name: batch(images, 10, seed) for seed, name in enumerate(CIFAR10)}


def hundred_batches() -> dict[str, Batch]:
    return {"train": batch(30, 100, 0), "test": batch(10, 100, 1)}


def packed(files: Mapping[str, bytes], kind: str) -> bytes:
    """The files as "zip", "tar" or "tar.gz"."""
    buffer = io.BytesIO()
    if kind == "zip":
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in files.items():
                archive.writestr(name, content)
        return buffer.getvalue()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return gzip.compress(buffer.getvalue(), 1) if kind == "tar.gz" else buffer.getvalue()
