"""A folder of images in an archive, one folder a class: train/, val/ and test/CLASS/IMAGE, or CLASS/IMAGE.

Images of one size become train_x and test_x, (samples, channels, height, width). Images of several sizes are kept as
they are, for the size that they shall have is a setting of the job: train_pixels holds the bytes of all images one
after the other, each (channels, height, width), and train_sizes (samples, 2) their heights and widths; so for others.
"""

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np

from jobs.problems import ProblemError
from worker.sandbox.archives import Member
from worker.sandbox.contents import SPLITS, Contents
from worker.sandbox.images import MAX_FILE_BYTES, Header, header_of, pixels_of
from worker.sandbox.tensor_file import Outgoing, quoted

SUFFIXES = {".png", ".jpg", ".jpeg"}
SPLIT_OF_FOLDER = {"train": "train", "test": "test", "val": "val", "valid": "val", "validation": "val"}
TEST_SHARE = 0.2
MAX_CLASSES = 10_000
EXPECTED = "train/CLASS/IMAGE and test/CLASS/IMAGE, or CLASS/IMAGE"


@dataclass(frozen=True)
class Picture:
    """An image file.

    Attributes:
        member: In the archive.
        folders: Of the path, without those that all images share.
        name: Without folders.
    """

    member: Member
    folders: tuple[str, ...]
    name: str

    @property
    def where(self) -> str:
        """The place in the upload, for messages."""
        return quoted(self.member.name)

    def read(self) -> bytes:
        """The bytes of the file."""
        if self.member.bytes > MAX_FILE_BYTES:
            raise ProblemError(
                "resource_limit",
                f"{self.where}: expected an image of at most {MAX_FILE_BYTES} bytes, got {self.member.bytes}",
            )
        with self.member.open() as stream:
            return stream.read(self.member.bytes + 1)


@dataclass(frozen=True)
class Arrangement:
    """Which image is what.

    Attributes:
        splits: For train, test and perhaps val the images with their labels, in the order of the archive: a gzipped
            tar can only be read forwards.
        classes: Names by label.
        notes: What a user should know of how the folders were read.
    """

    splits: Mapping[str, Sequence[tuple[Picture, int]]]
    classes: Sequence[str]
    notes: Sequence[str]


def holds_images(members: Iterable[Member]) -> bool:
    """Whether any file is named like an image."""
    return any(member.path and _is_image(member.path) for member in members)


def image_contents(members: Sequence[Member]) -> Contents:
    """Check the images of an archive and describe what they hold; one of them is in memory at a time.

    Args:
        members: Regular files of the archive; those that are not named like images are not looked at.

    Raises:
        ProblemError: `dataset_invalid` for another arrangement of folders or another kind of image; `resource_limit`;
            `truncated_file`.
    """
    found = arrange(members)
    headers = {
        split: [header_of(picture.read(), picture.where) for picture, _ in pictures]
        for split, pictures in found.splits.items()
    }
    together = [header for split in headers.values() for header in split]
    channels = 1 if all(header.is_grey for header in together) else 3
    sizes = {(header.height, header.width) for header in together}
    tensors: list[Outgoing] = []
    for split, pictures in found.splits.items():
        labels = np.array([label for _, label in pictures], np.int64)
        tensors.append(Outgoing(f"{split}_y", "I64", labels.shape, lambda labels=labels: [labels.view("u1").data]))  # type: ignore[misc]
        tensors += _image_tensors(split, [picture for picture, _ in pictures], headers[split], channels, len(sizes) > 1)
    return Contents(
        format="images",
        tensors=tensors,
        splits={split: len(pictures) for split, pictures in found.splits.items()},
        shape=(channels, *(next(iter(sizes)) if len(sizes) == 1 else (None, None))),
        classes=len(found.classes),
        dtype="U8",
        class_names=found.classes,
        notes=[*found.notes, *_image_notes(found, headers)],
    )


def arrange(members: Sequence[Member]) -> Arrangement:
    """Classes and splits by the folders of the images.

    Raises:
        ProblemError: `dataset_invalid`.
    """
    pictures, others = _pictures(members)
    depths = {len(picture.folders) for picture in pictures}
    if depths == {1}:
        arranged = _split_by_digest(pictures)
    elif depths == {2}:
        arranged = _split_by_folder(pictures)
    else:
        usual = max(1, min(max(depths), 2))
        odd = next(picture for picture in pictures if len(picture.folders) != usual)
        raise ProblemError("dataset_invalid", f"expected the folders {EXPECTED}, got {odd.where} among others")
    if others:
        shown = ", ".join(quoted(name) for name in others[:3])
        notes = [*arranged.notes, f"{len(others)} files that are not named .png, .jpg or .jpeg are not used: {shown}"]
        arranged = Arrangement(arranged.splits, arranged.classes, notes)
    return arranged


def _is_image(path: PurePosixPath) -> bool:
    return path.suffix.lower() in SUFFIXES and not _is_hidden(path)


def _is_hidden(path: PurePosixPath) -> bool:
    """Whether a system left it there: hidden files, and the second halves of files that macOS adds to archives."""
    return any(part.startswith(".") or part == "__MACOSX" for part in path.parts)


def _pictures(members: Sequence[Member]) -> tuple[list[Picture], list[str]]:
    """The images, without the folders that all of them share, and the names of other files."""
    paths: dict[PurePosixPath, Member] = {}
    others = []
    for member in members:
        path = member.path
        if path is None or not _is_image(path):
            if path is None or not _is_hidden(path):
                others.append(member.name)
            continue
        if path in paths:
            raise ProblemError("dataset_invalid", f"expected each image once, got {quoted(member.name)} again")
        paths[path] = member
    shared = len(PurePosixPath(os.path.commonpath([path.parent for path in paths])).parts)
    return [Picture(member, path.parts[shared:-1], path.name) for path, member in paths.items()], others


def _split_by_folder(pictures: Sequence[Picture]) -> Arrangement:
    """The splits that the outer folders name; without a test split, validation images take its place."""
    folders: dict[str, str] = {}
    for picture in pictures:
        folder = picture.folders[0]
        split = SPLIT_OF_FOLDER.get(folder.lower())
        if split is None or folders.setdefault(split, folder) != folder:
            named = "a split of its own" if split else "one of train, test, val and valid"
            raise ProblemError(
                "dataset_invalid",
                f"expected the folders {EXPECTED}, got {picture.where}: {quoted(folder)} is not {named}",
            )
    test = "test" if "test" in folders else "val"
    missing = [name for name in ("train", test) if name not in folders]
    if missing:
        raise ProblemError("dataset_invalid", f"expected the folders {EXPECTED}, got no images in {missing[0]}/")
    notes = []
    if test == "val":
        notes = [f"no folder test: the images of {quoted(folders['val'])} are the test split"]
        folders = {"train": folders["train"], "test": folders["val"]}
    chosen = {
        split: [picture for picture in pictures if picture.folders[0] == folders[split]]
        for split in SPLITS
        if split in folders
    }
    classes = _classes(picture.folders[1] for picture in chosen["train"])
    labels = {name: label for label, name in enumerate(classes)}
    for picture in pictures:
        if picture.folders[1] not in labels:
            raise ProblemError(
                "dataset_invalid",
                f"expected the classes of {folders['train']}/, got {picture.where}: {quoted(picture.folders[1])} is "
                "not among them",
            )
    return Arrangement(
        {split: [(picture, labels[picture.folders[1]]) for picture in chosen[split]] for split in chosen},
        classes,
        notes=notes,
    )


def _split_by_digest(pictures: Sequence[Picture]) -> Arrangement:
    """A fifth of each class as test split, at least one image: those whose CLASS/NAME has the lowest SHA-256.

    So the split depends on the names alone, and an archive that is packed again gives the same one.
    """
    by_class: dict[str, list[Picture]] = {}
    for picture in pictures:
        by_class.setdefault(picture.folders[0], []).append(picture)
    if all(name.lower() in SPLIT_OF_FOLDER for name in by_class):
        raise ProblemError("dataset_invalid", f"expected the folders {EXPECTED}, got {pictures[0].where}: no class")
    classes = _classes(by_class)
    test: set[int] = set()
    for name, own in by_class.items():
        if len(own) < 2:
            raise ProblemError(
                "dataset_invalid",
                f"expected two or more images a class, for one becomes the test split, got one of {quoted(name)}",
            )
        own.sort(
            key=lambda picture: hashlib.sha256(
                f"{picture.folders[0]}/{picture.name}".encode("utf-8", "surrogateescape")
            ).digest()
        )
        test.update(id(picture) for picture in own[: max(1, round(TEST_SHARE * len(own)))])
    labels = {name: label for label, name in enumerate(classes)}
    splits: dict[str, list[tuple[Picture, int]]] = {"train": [], "test": []}
    for picture in pictures:
        splits["test" if id(picture) in test else "train"].append((picture, labels[picture.folders[0]]))
    share = f"{TEST_SHARE:.0%}"
    return Arrangement(splits, classes, [f"no folders train and test: {share} of each class are the test split"])


def _classes(names: Iterable[str]) -> list[str]:
    """The names of the classes, sorted."""
    classes = sorted(set(names))
    if not 2 <= len(classes) <= MAX_CLASSES:
        raise ProblemError(
            "dataset_invalid", f"expected the folders of 2 to {MAX_CLASSES} classes, got {len(classes)}: {EXPECTED}"
        )
    for name in classes:
        if not name.isprintable():
            raise ProblemError("dataset_invalid", f"expected names of classes that can be shown, got {quoted(name)}")
    return classes


def _image_tensors(
    split: str, pictures: Sequence[Picture], headers: Sequence[Header], channels: int, ragged: bool
) -> list[Outgoing]:
    """The tensors of a split: one of all images, or pixels and sizes."""
    if not ragged:
        shape = (len(pictures), channels, headers[0].height, headers[0].width)
        return [Outgoing(f"{split}_x", "U8", shape, _pixels(pictures, channels))]
    sizes = np.array([(header.height, header.width) for header in headers], np.int64)
    total = channels * int(sizes.prod(axis=1).sum())
    return [
        Outgoing(f"{split}_sizes", "I64", sizes.shape, lambda: [sizes.view("u1").data]),
        Outgoing(f"{split}_pixels", "U8", (total,), _pixels(pictures, channels)),
    ]


def _pixels(pictures: Sequence[Picture], channels: int) -> Callable[[], Iterator[memoryview]]:
    """Reads the images again, for their pixels."""

    def chunks() -> Iterator[memoryview]:
        for picture in pictures:
            yield pixels_of(picture.read(), channels, picture.where).data

    return chunks


def _image_notes(found: Arrangement, headers: Mapping[str, Sequence[Header]]) -> list[str]:
    """What of the images themselves a user should know."""
    both = [
        (picture, header)
        for split, pictures in found.splits.items()
        for (picture, _), header in zip(pictures, headers[split], strict=True)
    ]
    notes = []
    first, size = both[0]
    for picture, other in both:
        if (other.height, other.width) != (size.height, size.width):
            notes.append(
                f"the images differ in size, so a job needs image.resize: {first.where} is {size.height} x "
                f"{size.width} pixels (height x width), {picture.where} is {other.height} x {other.width}"
            )
            break
    alpha = sum(header.has_alpha for _, header in both)
    if alpha:
        notes.append(f"{alpha} images have an alpha channel, which is dropped")
    return notes
