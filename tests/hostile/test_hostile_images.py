"""Images that expand, lie about themselves or are none, and paths that lead elsewhere."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hostile_files import Refuse, tar_bytes
from PIL import Image
from safetensors.numpy import load_file
from support.cifar import packed
from support.pictures import encoded, folder, jpeg, noise, numbered, png

from worker.sandbox import Limits, read_upload

GOOD = folder([*numbered("train/cat", 2), *numbered("train/dog", 2), *numbered("test/cat", 1)])
PLACE = "train/dog/1.png"


def chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def handmade_png(width: int, height: int, pixels: bytes, *chunks: bytes, bits: int = 8, colour: int = 2) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    parts = [chunk(b"IHDR", header), *chunks, chunk(b"IDAT", zlib.compress(pixels, 9)), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def archive(hostile: bytes, kind: str = "zip") -> bytes:
    return packed(GOOD | {PLACE: hostile}, kind)


def flat(side: int) -> bytes:
    """A PNG of one colour that takes a thousand times its bytes."""
    return handmade_png(side, side, bytes(side * (1 + 3 * side)))


BOMB_TEXT = chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(2**26), 9))
BOMB_PROFILE = chunk(b"iCCP", b"p\0\0" + zlib.compress(bytes(2**26), 9))
WRONG = {
    "more pixels than allowed": (flat(4097), "resource_limit"),
    "a size of 2^31": (handmade_png(2**31 - 1, 2**31 - 1, b""), "resource_limit"),
    "a JPEG of 65500 x 65500": (
        jpeg(noise(8, 8, 3, 0)).replace(b"\x08\x00\x08\x00\x08", b"\x08\xff\xdc\xff\xdc", 1),
        "resource_limit",
    ),
    "a text that expands": (handmade_png(5, 6, bytes(6 * 16), BOMB_TEXT), "truncated_file"),
    "fewer pixels than it says": (handmade_png(5, 6, bytes(40)), "truncated_file"),
    "cut short": (png(noise(60, 50, 3, 1))[:2000], "truncated_file"),
    "a JPEG cut short": (jpeg(noise(60, 50, 3, 1))[:1500], "truncated_file"),
    "a wrong checksum": (GOOD[PLACE][:50] + b"\xff" + GOOD[PLACE][51:], "truncated_file"),
    "a width of 0": (handmade_png(0, 6, b""), "dataset_invalid"),
    "a header of 4 GiB": (GOOD[PLACE][:8] + b"\xff\xff\xff\xff" + GOOD[PLACE][12:], "truncated_file"),
    "16 bits a channel": (encoded(Image.fromarray(np.zeros((6, 5), np.uint16)), "PNG"), "dataset_invalid"),
    "a GIF": (encoded(Image.fromarray(noise(6, 5, 1, 0)), "GIF"), "dataset_invalid"),
    "a BMP": (encoded(Image.fromarray(noise(6, 5, 3, 0)), "BMP"), "dataset_invalid"),
    "a TIFF": (encoded(Image.fromarray(noise(6, 5, 3, 0)), "TIFF"), "dataset_invalid"),
    "a WebP": (encoded(Image.fromarray(noise(6, 5, 3, 0)), "WEBP"), "dataset_invalid"),
    "PostScript": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "dataset_invalid"),
    "SVG": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "dataset_invalid"),
    "nothing": (b"", "dataset_invalid"),
}


@pytest.mark.parametrize(("hostile", "code"), WRONG.values(), ids=WRONG.keys())
def test_images_that_are_not_what_they_say_are_refused(refuse: Refuse, hostile: bytes, code: str):
    problem = refuse(archive(hostile), "dataset", "images.zip")
    assert problem.code == code
    assert PLACE in problem.detail


def test_a_profile_that_expands_is_not_expanded(refuse: Refuse):
    hostile = handmade_png(5, 6, bytes(6 * 16), BOMB_PROFILE)
    assert len(hostile) < 2**17
    limits = Limits(memory_bytes=2**25, memory_per_byte=0)
    assert refuse(archive(hostile), "dataset", "images.zip", limits).code in ("resource_limit", "truncated_file")


def test_many_images_that_expand_are_refused_before_they_are_decoded(refuse: Refuse):
    bomb = flat(2000)
    assert len(bomb) < 2**14
    files = {path: bomb for path in [*numbered("cat", 50), *numbered("dog", 50)]}
    problem = refuse(packed(files, "zip"), "dataset", "images.zip", Limits(expanding_bytes=2**26))
    assert problem.code == "resource_limit"
    assert "expands to" in problem.detail


def test_an_image_file_that_is_too_large_is_refused_by_its_size(refuse: Refuse):
    assert refuse(archive(bytes(2**26 + 1)), "dataset", "images.zip").code == "resource_limit"


@pytest.mark.parametrize("kind", ["zip", "tar"])
@pytest.mark.parametrize("name", ["../../etc/cat/1.png", "/etc/cat/1.png", "train/../../cat/1.png"])
def test_paths_that_lead_elsewhere_name_no_image(tmp_path: Path, name: str, kind: str):
    source, out = tmp_path / "source", tmp_path / "out"
    out.mkdir()
    source.write_bytes(packed(GOOD | {name: png(noise(6, 5, 3, 9))}, kind))
    found = read_upload(source, "dataset", "x", out, Limits())
    assert [path.name for path in out.iterdir()] == ["checked.safetensors"]
    assert len(load_file(found.tensors)["train_x"]) == 4
    assert found.summary["splits"] == {"train": 4, "test": 1}
    assert "are not used" in found.summary["notes"][0]


@pytest.mark.parametrize("name", ["..\\..\\cat\\1.png", "C:\\cat\\1.png"])
def test_backslashes_make_no_folders(refuse: Refuse, name: str):
    problem = refuse(packed(GOOD | {f"train/dog/a{name}/1.png": b""}, "tar"), "dataset", "images.tar")
    assert problem.code == "dataset_invalid"
    assert "expected the folders" in problem.detail


def test_links_to_images_are_not_followed(tmp_path: Path):
    secret = tmp_path / "secret.png"
    secret.write_bytes(png(noise(6, 5, 3, 9)))
    files = {path: data for path, data in GOOD.items() if not path.startswith("test/")}
    data = tar_bytes(files, links={"test/cat/0.png": str(secret)})
    # Without the link there is one level of folders left, of which each class gives a part to the test split.
    source, out = tmp_path / "images.tar", tmp_path / "found"
    out.mkdir()
    source.write_bytes(data)
    stored = load_file(read_upload(source, "dataset", "x", out, Limits()).tensors)
    pixels = np.asarray(Image.open(io.BytesIO(secret.read_bytes()))).transpose(2, 0, 1)
    assert not any((image == pixels).all() for split in ("train_x", "test_x") for image in stored[split])


def test_an_image_that_is_there_twice_is_refused(refuse: Refuse):
    data = packed(GOOD | {"./train/dog/1.png": GOOD[PLACE]}, "tar")
    assert "once" in refuse(data, "dataset", "images.tar").detail


def test_the_name_of_a_class_cannot_carry_control_codes(refuse: Refuse):
    files = folder([*numbered("cat\x1b[31m", 2), *numbered("dog", 2)])
    problem = refuse(packed(files, "tar"), "dataset", "images.tar")
    assert "\x1b" not in problem.detail
    assert problem.code == "dataset_invalid"


def test_an_archive_of_neither_arrays_nor_images_says_what_is_expected(refuse: Refuse):
    problem = refuse(packed({"notes.txt": b"hello"}, "zip"), "dataset", "data.zip")
    assert problem.code == "dataset_invalid"
    assert "CIFAR-10" in problem.detail
    assert "'notes.txt'" in problem.detail
