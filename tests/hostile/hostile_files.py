"""Writers of hostile uploads, by hand where no library would write them."""

import gzip
import io
import json
import os
import pickle
import struct
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from jobs.problems import ProblemError

Refuse = Callable[..., ProblemError]


class Marker:
    """Pickled, it becomes a call of os.system that creates a file: proof that code ran."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.marker}",)


class Opener:
    """Pickled, it becomes a call of open(..., "w"): code that needs no process."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return open, (str(self.marker), "w")


def safetensors_bytes(header: str | Mapping[str, Any], data: bytes = b"", length: int | None = None) -> bytes:
    """A safetensors file with this header, whatever it says."""
    text = (header if isinstance(header, str) else json.dumps(header)).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def entry(dtype: str, shape: list[int], start: int, stop: int) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, stop]}


def torch_bytes(value: object, **options: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer, **options)
    return buffer.getvalue()


def rezipped(data: bytes, compression: int = zipfile.ZIP_STORED, more: Mapping[str, bytes] | None = None) -> bytes:
    """A zip with the same members, compressed, and further ones."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(buffer, "w", compression) as new:
        for info in old.infolist():
            new.writestr(info.filename, old.read(info))
        for name, content in (more or {}).items():
            new.writestr(name, content)
    return buffer.getvalue()


def zip_bytes(members: Mapping[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def torch_zip_of_pickle(pickled: bytes, records: Mapping[str, bytes] | None = None) -> bytes:
    """What torch.save writes, around a pickle of our own."""
    members = {"archive/data.pkl": pickled, "archive/version": b"3\n", "archive/byteorder": b"little"}
    members |= {f"archive/data/{name}": content for name, content in (records or {}).items()}
    return zip_bytes(members, zipfile.ZIP_STORED)


def pickled_tensor(numbers: int, size: tuple[int, ...], stride: tuple[int, ...]) -> bytes:
    """The pickle of {"w": tensor}, a view of `numbers` float32 with any size and stride."""
    text = io.BytesIO()

    class Pickler(pickle.Pickler):
        def persistent_id(self, value: object) -> object:
            if isinstance(value, Storage):
                return ("storage", torch.FloatStorage, "0", "cpu", numbers)
            return None

    Pickler(text, protocol=2).dump({"w": Rebuilt(size, stride)})
    return text.getvalue()


class Storage:
    """Stands for the record of a tensor's bytes."""


class Rebuilt:
    """Pickled, it becomes the call with which torch.load makes a tensor."""

    def __init__(self, size: tuple[int, ...], stride: tuple[int, ...]) -> None:
        self.size, self.stride = size, stride

    def __reduce__(self) -> tuple[Any, ...]:
        from collections import OrderedDict

        return torch._utils._rebuild_tensor_v2, (Storage(), 0, self.size, self.stride, False, OrderedDict())


def overlapping_zip(member: str, content: bytes) -> bytes:
    """A zip whose directory lists one member's bytes under two names."""
    data = bytearray(zip_bytes({member: content, "other" + member[5:]: b""}, zipfile.ZIP_STORED))
    directory = data.index(b"PK\x01\x02")
    second = data.index(b"PK\x01\x02", directory + 4)
    data[second + 42 : second + 46] = struct.pack("<I", 0)  # its local header: that of the first
    return bytes(data)


def npz_bytes(**arrays: Any) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def npy_header(descr: str, shape: tuple[int, ...]) -> bytes:
    """The start of a .npy file that claims this dtype and shape."""
    text = repr({"descr": descr, "fortran_order": False, "shape": shape}).encode()
    text += b" " * (63 - (10 + len(text)) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text


def good_dataset() -> dict[str, Any]:
    x = np.arange(6 * 16, dtype=np.uint8).reshape(6, 4, 4)
    return {"train_x": x, "train_y": np.array([0, 1, 2, 0, 1, 2]), "test_x": x[:3], "test_y": np.array([0, 1, 2])}


def idx_bytes(array: np.ndarray[Any, Any], kind: int = 0x08, magic: bytes = b"\0\0") -> bytes:
    header = magic + bytes([kind, array.ndim]) + b"".join(struct.pack(">I", size) for size in array.shape)
    return header + array.tobytes()


def good_idx() -> dict[str, bytes]:
    data = good_dataset()
    return {
        "train-images-idx3-ubyte": idx_bytes(data["train_x"]),
        "train-labels-idx1-ubyte": idx_bytes(data["train_y"].astype(np.uint8)),
        "t10k-images-idx3-ubyte": idx_bytes(data["test_x"]),
        "t10k-labels-idx1-ubyte": idx_bytes(data["test_y"].astype(np.uint8)),
    }


def tar_bytes(members: Mapping[str, bytes], links: Mapping[str, str] | None = None, mode: str = "w") -> bytes:
    """A tar of files and symbolic links."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as archive:  # type: ignore[call-overload]
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
        for name, target in (links or {}).items():
            info = tarfile.TarInfo(name)
            info.type, info.linkname = tarfile.SYMTYPE, target
            archive.addfile(info)
    return buffer.getvalue()


def gzip_bomb(start: bytes, zeros: int) -> bytes:
    """Gzip of `start` and then so many zero bytes."""
    buffer = io.BytesIO()
    with gzip.GzipFile(fileobj=buffer, mode="wb", compresslevel=9) as file:
        file.write(start)
        for _ in range(zeros // 2**20):
            file.write(bytes(2**20))
    return buffer.getvalue()
