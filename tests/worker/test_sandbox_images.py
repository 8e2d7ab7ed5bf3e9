"""Folders of images come out with the pixels that Pillow reads, in the splits and classes of their folders."""

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file
from support.cifar import packed
from support.pictures import encoded, folder, jpeg, noise, numbered, png

from jobs.problems import ProblemError
from worker.sandbox import Inspection, Limits, read_upload

Read = Callable[..., Inspection]
SPLIT = [*numbered("train/dog", 3), *numbered("train/cat", 2), *numbered("test/cat", 2), *numbered("test/dog", 1)]


@pytest.fixture
def read(tmp_path: Path) -> Read:
    def inspect(files: dict[str, bytes], kind: str = "zip") -> Inspection:
        number = len(list(tmp_path.iterdir()))
        out, source = tmp_path / f"out{number}", tmp_path / f"source{number}"
        out.mkdir()
        source.write_bytes(packed(files, kind))
        return read_upload(source, "dataset", "no_hint", out, Limits())

    return inspect


def pixels_of(data: bytes, mode: str = "RGB") -> np.ndarray:
    """(channels, height, width), as Pillow decodes it."""
    pixels = np.asarray(Image.open(io.BytesIO(data)).convert(mode))
    return pixels[None] if mode == "L" else pixels.transpose(2, 0, 1)


def require_images(found: np.ndarray, files: list[bytes], mode: str = "RGB") -> None:
    np.testing.assert_array_equal(found, np.stack([pixels_of(data, mode) for data in files]))


@pytest.mark.parametrize("kind", ["zip", "tar", "tar.gz"])
@pytest.mark.parametrize("root", ["", "./", "pets/", "a/b/"])
def test_folders_train_and_test_are_the_splits(read: Read, kind: str, root: str):
    files = folder([root + path for path in SPLIT])
    found = read(files | {f"{root}README.txt": b"about", "__MACOSX/train/dog/._0.png": b"resource fork"}, kind)
    stored = load_file(found.tensors)
    images = list(files.values())
    require_images(stored["train_x"], images[:5])
    require_images(stored["test_x"], images[5:])
    assert stored["train_y"].tolist() == [1, 1, 1, 0, 0]  # sorted: cat, dog
    assert stored["test_y"].tolist() == [0, 0, 1]
    assert found.format == "images"
    assert found.summary == {
        "splits": {"train": 5, "test": 3},
        "shape": [3, 6, 5],
        "classes": 2,
        "dtype": "uint8",
        "class_names": ["cat", "dog"],
        "notes": [f"1 files that are not named .png, .jpg or .jpeg are not used: '{root}README.txt'"],
    }


@pytest.mark.parametrize("name", ["val", "valid", "Validation"])
def test_validation_images_are_the_test_split_where_there_is_no_other(read: Read, name: str):
    found = read(folder([path.replace("test/", f"{name}/") for path in SPLIT]))
    assert found.summary["splits"] == {"train": 5, "test": 3}
    assert found.summary["notes"] == [f"no folder test: the images of '{name}' are the test split"]


@pytest.mark.parametrize("name", ["val", "valid", "Validation"])
def test_validation_images_beside_a_test_split_are_a_split_of_their_own(read: Read, name: str):
    files = folder([*SPLIT, *numbered(f"{name}/cat", 3), *numbered(f"{name}/dog", 1)])
    found = read(files)
    stored = load_file(found.tensors)
    images = list(files.values())
    assert found.summary["splits"] == {"train": 5, "val": 4, "test": 3}
    assert found.summary["notes"] == []
    require_images(stored["val_x"], images[8:])
    require_images(stored["test_x"], images[5:8])
    assert stored["val_y"].tolist() == [0, 0, 0, 1]


def test_one_level_of_folders_is_split_by_names_alone(read: Read):
    files = folder([*numbered("cat", 10), *numbered("dog", 20), *numbered("eel", 2)])
    first, again = read(files), read(dict(reversed(files.items())), "tar.gz")
    assert first.summary["splits"] == again.summary["splits"] == {"train": 25, "test": 7}
    assert "20% of each class" in first.summary["notes"][0]
    one, two = load_file(first.tensors), load_file(again.tensors)
    assert np.bincount(one["test_y"]).tolist() == [2, 4, 1]
    for split in ("train", "test"):  # the same images, in the other order
        np.testing.assert_array_equal(one[f"{split}_x"], two[f"{split}_x"][::-1])
    everything = np.concatenate([one["train_x"], one["test_x"]])
    assert sorted(map(bytes, everything)) == sorted(pixels_of(data).tobytes() for data in files.values())


def test_grey_images_keep_one_channel(read: Read):
    files = folder(SPLIT, channels=1)
    stored = load_file(read(files).tensors)
    require_images(stored["train_x"], list(files.values())[:5], "L")
    assert stored["train_x"].shape[1:] == (1, 6, 5)


def test_grey_images_among_coloured_ones_become_coloured(read: Read):
    files = folder(SPLIT) | {"train/dog/1.png": png(noise(6, 5, 1, 99))}
    require_images(load_file(read(files).tensors)["train_x"], list(files.values())[:5])


@pytest.mark.parametrize(
    "data",
    [
        jpeg(noise(6, 5, 3, 50)),
        encoded(Image.fromarray(noise(6, 5, 3, 50)), "JPEG", progressive=True),
        encoded(Image.fromarray(noise(6, 5, 3, 50)).quantize(16), "PNG"),
        encoded(Image.fromarray(noise(6, 5, 4, 50)), "PNG"),
        encoded(Image.fromarray(noise(6, 5, 3, 50)).convert("CMYK"), "JPEG"),
        encoded(Image.fromarray(noise(6, 5, 1, 50)).convert("1"), "PNG"),
    ],
    ids=["jpeg", "progressive", "palette", "alpha", "cmyk", "bits"],
)
def test_kinds_of_png_and_jpeg_are_read(read: Read, data: bytes):
    files = folder(SPLIT) | {"train/cat/1.JPG": data}
    del files["train/cat/1.png"]
    found = read(files)
    require_images(load_file(found.tensors)["train_x"][-1:], [data])
    assert any("alpha" in note for note in found.summary["notes"]) == (Image.open(io.BytesIO(data)).mode == "RGBA")


def test_images_of_several_sizes_are_kept_as_they_are(read: Read):
    files = folder(SPLIT) | {"train/dog/2.png": png(noise(9, 4, 3, 50)), "test/cat/0.png": png(noise(2, 2, 3, 51))}
    found = read(files)
    assert found.summary["shape"] == [3, None, None]
    (note,) = found.summary["notes"]
    assert "'train/dog/0.png' is 6 x 5" in note
    assert "'train/dog/2.png' is 9 x 4" in note
    stored = load_file(found.tensors)
    images = list(files.values())
    for split, own in (("train", images[:5]), ("test", images[5:])):
        decoded = [pixels_of(data) for data in own]
        assert stored[f"{split}_pixels"].tobytes() == b"".join(map(bytes, decoded))
        assert stored[f"{split}_sizes"].tolist() == [list(image.shape[1:]) for image in decoded]
    assert stored["test_y"].tolist() == [0, 0, 1]


def test_of_many_classes_the_first_names_are_listed(read: Read):
    files = folder([f"{number:03}{'x' * 150}/{image}.png" for number in range(101) for image in range(2)], size=(1, 1))
    found = read(files)
    assert found.summary["classes"] == 101
    assert found.summary["class_names"] == [f"{number:03}{'x' * 97}" for number in range(100)]
    assert "of the 101 class names the first 100 are listed" in found.summary["notes"]


ODD = {
    "a deeper folder": ([*SPLIT, "train/cat/more/1.png"], "'train/cat/more/1.png'"),
    "an image without a class": ([*SPLIT, "train/1.png"], "'train/1.png'"),
    "images without folders": (["1.png", "2.png"], "'1.png'"),
    "one class": (numbered("cat", 3), "'cat/0.png'"),
    "one class in splits": ([*numbered("train/cat", 3), *numbered("test/cat", 3)], "2 to 10000 classes, got 1"),
    "splits without classes": ([*numbered("train", 3), *numbered("test", 3)], "no class"),
    "a class that is not trained": ([*SPLIT, "test/eel/1.png"], "'eel' is not among them"),
    "another folder beside the splits": ([*SPLIT, "extra/cat/1.png"], "'extra' is not one of train"),
    "two folders for a split": ([*SPLIT, *numbered("val/cat", 1), *numbered("valid/cat", 1)], "split of its own"),
    "no training split": ([*numbered("val/cat", 3), *numbered("test/dog", 3)], "no images in train/"),
    "no test split": ([*numbered("train/a/cat", 2), *numbered("train/b/dog", 2)], "'a' is not one of train"),
    "a class of one image": ([*numbered("cat", 3), "dog/0.png"], "got one of 'dog'"),
    "a name that cannot be shown": ([*numbered("cat", 2), *numbered("d\x1bog", 2)], "can be shown"),
}


@pytest.mark.parametrize(("paths", "said"), ODD.values(), ids=ODD.keys())
def test_other_arrangements_are_refused(read: Read, paths: list[str], said: str):
    with pytest.raises(ProblemError) as caught:
        read(folder(paths))
    assert caught.value.code == "dataset_invalid"
    assert said in caught.value.detail
