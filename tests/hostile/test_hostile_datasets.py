"""Data sets that expand, point elsewhere, lie about themselves or do not hold together."""

import gzip
import io
import struct
import zipfile

import numpy as np
import pytest
from hostile_files import (
    Marker,
    Refuse,
    good_dataset,
    good_idx,
    gzip_bomb,
    idx_bytes,
    npy_header,
    npz_bytes,
    overlapping_zip,
    tar_bytes,
    zip_bytes,
)

from worker.sandbox import Limits

SMALL = Limits(expanding_bytes=2**20, expansion=10)
GOOD = good_dataset()
X, Y = GOOD["train_x"], GOOD["train_y"]


def with_member(name: str, content: bytes) -> bytes:
    """A zip that is a good .npz but for one member."""
    members = {}
    with zipfile.ZipFile(io.BytesIO(npz_bytes(**GOOD))) as archive:
        members = {info.filename: archive.read(info) for info in archive.infolist()}
    return zip_bytes(members | {name: content})


def test_arrays_of_objects_are_refused_and_not_unpickled(refuse: Refuse, tmp_path):
    marker = tmp_path / "marker"
    data = npz_bytes(**(GOOD | {"train_x": np.array([Marker(marker)] * 6, dtype=object)}))
    problem = refuse(data, "dataset", "data.npz")
    assert problem.code == "dataset_invalid"
    assert "dtype" in problem.detail
    assert not marker.exists()


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (npy_header("|u1", (2**40, 4, 4)), "dataset_invalid"),
        (npy_header("|u1", (6, 10**30)), "dataset_invalid"),
        (npy_header("<f4", (-6, -4, 4)), "dataset_invalid"),
        (npy_header("|u1", (6, 4, 4)) + bytes(90), "truncated_file"),
        (npy_header("|u1", (6, 4, 4)) + bytes(97), "dataset_invalid"),
        (npy_header("|S8", (6, 4, 4)), "dataset_invalid"),
        (npy_header("<c8", (6, 4, 4)), "dataset_invalid"),
        (npy_header("<f16", (6, 4, 4)), "dataset_invalid"),
        (npy_header("<f4", ("6",)), "dataset_invalid"),  # type: ignore[arg-type]
        (npy_header("<f4" + ", ('a'" * 500, (6,)), "dataset_invalid"),
        (b"\x93NUMPY\x01\x00\xff\xff" + b"(" * 65535, "dataset_invalid"),
        (b"no numpy file", "dataset_invalid"),
        (b"", "dataset_invalid"),
    ],
)
def test_an_array_that_is_not_what_its_header_says_is_refused(refuse: Refuse, content: bytes, code: str):
    assert refuse(with_member("train_x.npy", content), "dataset", "data.npz").code == code


def test_an_npz_bomb_is_refused(refuse: Refuse):
    zeros = npy_header("|u1", (40_000, 32, 32)) + bytes(40_000 * 1024)
    labels = npy_header("|u1", (40_000,)) + bytes(40_000)
    data = zip_bytes({f"{s}_{k}.npy": v for s in ("train", "test") for k, v in (("x", zeros), ("y", labels))})
    assert len(data) < 2**18
    problem = refuse(data, "dataset", "data.npz", SMALL)
    assert problem.code == "resource_limit"


@pytest.mark.parametrize("name", ["train-images-idx3-ubyte", "train-labels-idx1-ubyte"])
def test_one_gzipped_file_is_told_from_a_damaged_archive(refuse: Refuse, name: str):
    problem = refuse(gzip.compress(good_idx()[name]), "dataset", f"{name}.gz")
    assert problem.code == "unsupported_format"
    assert "several files belong into one zip or tar" in str(problem)


def test_a_gzip_bomb_behind_an_honest_header_is_refused(refuse: Refuse):
    bomb = gzip_bomb(good_idx()["train-images-idx3-ubyte"], 2**26)
    members = {k: v for k, v in good_idx().items() if k != "train-images-idx3-ubyte"}
    data = zip_bytes(members | {"train-images-idx3-ubyte.gz": bomb})
    assert refuse(data, "dataset", "data.zip", SMALL).code == "dataset_invalid"  # stops at the byte after the end


def test_a_gzip_bomb_that_its_header_announces_is_refused(refuse: Refuse):
    bomb = gzip_bomb(b"\0\0\x08\x03" + struct.pack(">III", 2**16, 32, 32), 2**26)
    labels = idx_bytes(np.zeros(2**16, np.uint8))
    files = {"train-images-idx3-ubyte.gz": bomb, "t10k-images-idx3-ubyte.gz": bomb}
    data = zip_bytes(files | {"train-labels-idx1-ubyte": labels, "t10k-labels-idx1-ubyte": labels})
    assert len(data) < 2**18
    assert refuse(data, "dataset", "data.zip", SMALL).code == "resource_limit"


def test_a_tar_gz_bomb_is_refused_while_it_is_listed(refuse: Refuse):
    data = gzip.compress(tar_bytes({"padding": bytes(2**25), **good_idx()}), 9)
    assert len(data) < 2**16
    problem = refuse(data, "dataset", "data.tar.gz", SMALL)
    assert problem.code == "resource_limit"


@pytest.mark.parametrize(
    "name", ["../t10k-labels-idx1-ubyte", "/etc/t10k-labels-idx1-ubyte", "a/../../t10k-labels-idx1-ubyte"]
)
@pytest.mark.parametrize("kind", ["tar", "zip"])
def test_names_outside_the_archive_are_not_read(refuse: Refuse, name: str, kind: str):
    members = good_idx()
    members[name] = members.pop("t10k-labels-idx1-ubyte")
    problem = refuse(tar_bytes(members) if kind == "tar" else zip_bytes(members), "dataset", f"data.{kind}")
    assert problem.code == "dataset_invalid"
    assert "lacks t10k-labels-idx1-ubyte" in problem.detail


def test_links_are_not_followed(refuse: Refuse):
    members = good_idx()
    del members["t10k-labels-idx1-ubyte"]
    problem = refuse(tar_bytes(members, {"t10k-labels-idx1-ubyte": "/etc/passwd"}), "dataset", "data.tar")
    assert problem.code == "dataset_invalid"
    assert "links are not followed" in problem.detail

    link = zipfile.ZipInfo("t10k-labels-idx1-ubyte")
    link.external_attr = 0o120777 << 16
    buffer = io.BytesIO(zip_bytes(members))
    with zipfile.ZipFile(buffer, "a") as archive:
        archive.writestr(link, "/etc/passwd")
    assert "links are not followed" in refuse(buffer.getvalue(), "dataset", "data.zip").detail


IMAGES, LABELS = good_idx()["train-images-idx3-ubyte"], good_idx()["train-labels-idx1-ubyte"]


@pytest.mark.parametrize(
    ("file", "content", "code"),
    [
        ("train-images-idx3-ubyte", b"\x08\x03" + IMAGES[2:], "dataset_invalid"),
        ("train-images-idx3-ubyte", b"\0\0\x0a" + IMAGES[3:], "dataset_invalid"),
        ("train-images-idx3-ubyte", b"\0\0\x08\x00" + IMAGES[4:], "dataset_invalid"),
        ("train-images-idx3-ubyte", b"\0\0\x08\xff" + bytes(1020), "dataset_invalid"),
        ("train-images-idx3-ubyte", IMAGES[:-1], "truncated_file"),
        ("train-images-idx3-ubyte", IMAGES[:9], "truncated_file"),
        ("train-images-idx3-ubyte", IMAGES[:3], "truncated_file"),
        ("train-images-idx3-ubyte", IMAGES + b"\0", "dataset_invalid"),
        ("train-images-idx3-ubyte", b"\0\0\x08\x03" + b"\xff" * 12, "dataset_invalid"),
        ("train-labels-idx1-ubyte", IMAGES, "dataset_invalid"),
        ("train-labels-idx1-ubyte", LABELS[:-1], "truncated_file"),
        ("train-labels-idx1-ubyte", b"", "truncated_file"),
    ],
)
def test_an_idx_file_that_is_not_what_its_header_says_is_refused(refuse: Refuse, file: str, content: bytes, code: str):
    assert refuse(zip_bytes(good_idx() | {file: content}), "dataset", "data.zip").code == code


def test_a_gzip_member_cut_short_is_refused(refuse: Refuse):
    members = good_idx()
    members["train-images-idx3-ubyte.gz"] = gzip.compress(members.pop("train-images-idx3-ubyte"))[:-20]
    assert refuse(zip_bytes(members), "dataset", "data.zip").code == "truncated_file"


def test_a_member_with_a_wrong_checksum_is_refused(refuse: Refuse):
    data = bytearray(npz_bytes(**GOOD))
    data[data.index(X.tobytes()) + 5] ^= 1
    assert refuse(bytes(data), "dataset", "data.npz").code == "truncated_file"


@pytest.mark.parametrize("share", [0.1, 0.3])
@pytest.mark.parametrize("data", [npz_bytes(**GOOD), tar_bytes(good_idx()), tar_bytes(good_idx(), mode="w:gz")])
def test_an_archive_cut_short_is_refused(refuse: Refuse, data: bytes, share: float):
    assert refuse(data[: int(len(data) * share)], "dataset", "data").code == "truncated_file"


def test_a_zip_with_members_that_share_bytes_is_refused(refuse: Refuse):
    assert refuse(overlapping_zip("a/one/x", b"x" * 100), "dataset", "data.zip").code == "dataset_invalid"


def test_two_files_for_one_part_are_refused(refuse: Refuse):
    members = good_idx()
    members["copy/train-labels.idx1-ubyte"] = members["train-labels-idx1-ubyte"]
    problem = refuse(zip_bytes(members), "dataset", "data.zip")
    assert problem.code == "dataset_invalid"
    assert "copy/train-labels.idx1-ubyte" in problem.detail


@pytest.mark.parametrize(
    ("change", "code", "said"),
    [
        ({"test_x": None}, "dataset_invalid", "test_x is missing"),
        ({"train_y": Y[:5]}, "dataset_invalid", "6 samples, 5 labels"),
        ({"test_x": GOOD["test_x"][:, :3]}, "dataset_invalid", "expected samples of shape (4, 4) as in train_x"),
        ({"train_x": X[:0], "train_y": Y[:0]}, "dataset_invalid", "at least one sample"),
        ({"train_x": X[:, 0, 0]}, "dataset_invalid", "samples first"),
        ({"train_y": Y - 1}, "dataset_invalid", "got -1 to 1"),
        ({"train_y": Y + 100_000}, "dataset_invalid", "labels from 0 to 99999"),
        ({"train_y": np.array([2**64 - 1] * 6, np.uint64)}, "dataset_invalid", "labels from 0 to 99999"),
        ({"train_y": Y + 0.5}, "dataset_invalid", "fractions"),
        ({"train_y": np.full(6, np.nan)}, "non_finite_values", "labels"),
        ({"train_y": np.eye(6)}, "dataset_invalid", "argmax(1)"),
        ({"train_y": Y > 0}, "dataset_invalid", "expected integers"),
        ({"train_y": np.array(["a"] * 6)}, "dataset_invalid", "expected numbers"),
        ({"train_x": np.where(X == 7, np.nan, X), "test_x": X[:3] / 255}, "non_finite_values", "train_x.npy"),
        ({"train_x": X / 255, "test_x": X[:3] + np.inf}, "non_finite_values", "test_x.npy"),
        ({"train_x": X + 1e300, "test_x": X[:3] / 255}, "non_finite_values", "too large for float32"),
        ({"train_x": X / 255}, "dataset_invalid", "expected train_x, test_x all as 8-bit images or none of them"),
    ],
)
def test_arrays_that_do_not_hold_together_are_refused(refuse: Refuse, change: dict, code: str, said: str):
    arrays = {name: array for name, array in (GOOD | change).items() if array is not None}
    problem = refuse(npz_bytes(**arrays), "dataset", "data.npz")
    assert problem.code == code
    assert said in problem.detail


@pytest.mark.parametrize("data", [b"<html>404</html>", b"\x80\x02}q\x00.", b"x,y\n1,2\n"])
def test_another_format_is_refused(refuse: Refuse, data: bytes):
    assert refuse(data, "dataset", "data.npz").code == "unsupported_format"


def test_gzip_of_nothing_is_refused(refuse: Refuse):
    assert refuse(b"\x1f\x8bnonsense", "dataset", "data.tar.gz").code == "truncated_file"
