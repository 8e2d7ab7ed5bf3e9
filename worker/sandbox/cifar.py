"""CIFAR-10 and CIFAR-100 as they are published: https://www.cs.toronto.edu/~kriz/cifar.html.

The Python version holds pickles, which are read as data (`worker.sandbox.pickled`); the binary version holds records of
one or two label bytes and 3072 bytes of pixels. An image is 32 x 32 pixels in three planes: red, green, blue.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from jobs.problems import ProblemError
from worker.sandbox.archives import Member
from worker.sandbox.contents import Contents
from worker.sandbox.pickled import PickledArray, read_pickle
from worker.sandbox.tensor_file import Outgoing, quoted

SHAPE = (3, 32, 32)
PIXELS = 3 * 32 * 32
MAX_BATCH_BYTES = 2**28  # the largest published one has 155 MB
MAX_NAMES_BYTES = 2**16
FINE = "labels are the fine ones; the 20 coarse ones are not used"


@dataclass(frozen=True)
class Layout:
    """One of the published forms.

    Attributes:
        name: For messages.
        format: As the summary names it.
        train: Files of the training split, in order.
        test: File of the test split.
        names: File with the names of the classes, which may be missing.
        names_key: Where the file is a pickle: the key of the names.
        labels_key: Where the batches are pickles: the key of the labels. Empty for the binary version.
        label_bytes: Of a record in the binary version; the last one is the label.
        classes: How many there are.
        notes: For the summary.
    """

    name: str
    format: str
    train: tuple[str, ...]
    test: str
    names: str
    classes: int
    labels_key: str = ""
    names_key: str = ""
    label_bytes: int = 1
    notes: tuple[str, ...] = ()

    @property
    def files(self) -> tuple[str, ...]:
        """Files that hold images."""
        return (*self.train, self.test)


@dataclass(frozen=True)
class Batch:
    """One file: pixels (images, 3072) uint8, labels (images,) int64."""

    pixels: NDArray[np.uint8]
    labels: NDArray[np.int64]


TEN = tuple(f"data_batch_{number}" for number in range(1, 6))
LAYOUTS = (
    Layout("CIFAR-10 (Python version)", "cifar_python", TEN, "test_batch", "batches.meta", 10, "labels", "label_names"),
    Layout(
        "CIFAR-10 (binary version)",
        "cifar_binary",
        tuple(f"{name}.bin" for name in TEN),
        "test_batch.bin",
        "batches.meta.txt",
        10,
    ),
    Layout(
        "CIFAR-100 (Python version)",
        "cifar_python",
        ("train",),
        "test",
        "meta",
        100,
        "fine_labels",
        "fine_label_names",
        notes=(FINE,),
    ),
    Layout(
        "CIFAR-100 (binary version)",
        "cifar_binary",
        ("train.bin",),
        "test.bin",
        "fine_label_names.txt",
        100,
        label_bytes=2,
        notes=(FINE,),
    ),
)


def cifar_layout(members: Iterable[Member]) -> Layout | None:
    """The form whose files an archive holds, in whatever folder they are; None if it holds none of them.

    Raises:
        ProblemError: `dataset_invalid` if there are files of several.
    """
    names = {member.path.name for member in members if member.path}
    found = [layout for layout in LAYOUTS if names & set(layout.files)]
    if len(found) > 1:
        raise ProblemError(
            "dataset_invalid", f"expected one data set, got files of {' and of '.join(layout.name for layout in found)}"
        )
    return found[0] if found else None


def cifar_contents(members: Sequence[Member], layout: Layout) -> Contents:
    """Check the files of an archive and describe what they hold; one of them is in memory at a time.

    Args:
        members: Regular files of the archive.
        layout: Which of them are read.

    Raises:
        ProblemError: `dataset_invalid` if a file is missing, there twice or not as it should be; `truncated_file`;
            `resource_limit`.
    """
    by_name = _by_name(members, layout)
    labels: dict[str, NDArray[np.int64]] = {}
    seen: dict[str, str] = {}
    for name in layout.files:
        batch = _read(by_name[name], layout)
        digest = hashlib.sha256(batch.pixels.data).hexdigest()
        if digest in seen:
            raise ProblemError("dataset_invalid", f"{layout.name}: {name} holds the same images as {seen[digest]}")
        seen[digest] = name
        labels[name] = batch.labels
    tensors = []
    splits = {"train": layout.train, "test": (layout.test,)}
    counts = {split: sum(len(labels[name]) for name in names) for split, names in splits.items()}
    for split, names in splits.items():
        values = np.concatenate([labels[name] for name in names])
        tensors.append(Outgoing(f"{split}_y", "I64", values.shape, _whole(values)))
        pixels = _pixels([by_name[name] for name in names], layout)
        tensors.append(Outgoing(f"{split}_x", "U8", (counts[split], *SHAPE), pixels))
    return Contents(
        format=layout.format,
        tensors=tensors,
        splits=counts,
        shape=SHAPE,
        classes=layout.classes,
        dtype="U8",
        class_names=_class_names(by_name[layout.names], layout) if layout.names in by_name else (),
        notes=layout.notes,
    )


def _by_name(members: Sequence[Member], layout: Layout) -> dict[str, Member]:
    """The files of a layout by their names without folders."""
    found: dict[str, Member] = {}
    for member in members:
        name = member.path.name if member.path else ""
        if name not in (*layout.files, layout.names):
            continue
        if name in found:
            raise ProblemError(
                "dataset_invalid",
                f"{layout.name}: expected {name} once, got {quoted(found[name].name)} and {quoted(member.name)}",
            )
        found[name] = member
    missing = [name for name in layout.files if name not in found]
    if missing:
        raise ProblemError(
            "dataset_invalid",
            f"{layout.name}: expected {', '.join(layout.files)}, the archive lacks {', '.join(missing)} "
            "(links are not followed)",
        )
    return found


def _whole(values: NDArray[np.int64]) -> Callable[[], list[memoryview]]:
    return lambda: [values.view("u1").data]


def _pixels(members: Sequence[Member], layout: Layout) -> Callable[[], Iterator[memoryview]]:
    """Reads the files again, for their pixels."""

    def chunks() -> Iterator[memoryview]:
        for member in members:
            yield _read(member, layout).pixels.data

    return chunks


def _read(member: Member, layout: Layout) -> Batch:
    """One file, checked."""
    where = quoted(member.name)
    if member.bytes > MAX_BATCH_BYTES:
        raise ProblemError(
            "resource_limit", f"{where}: expected a batch of at most {MAX_BATCH_BYTES} bytes, got {member.bytes}"
        )
    batch = _pickled_batch(member, layout, where) if layout.labels_key else _binary_batch(member, layout, where)
    if len(batch.labels) == 0:
        raise ProblemError("dataset_invalid", f"{where}: expected at least one image, got none")
    return batch


def _labels(values: Sequence[int], layout: Layout, where: str) -> NDArray[np.int64]:
    """Labels that are checked to be those of the layout's classes."""
    for image, label in enumerate(values):
        if not 0 <= label < layout.classes:
            raise ProblemError(
                "dataset_invalid",
                f"{where}: expected labels from 0 to {layout.classes - 1}, image {image} has {quoted(label)}",
            )
    return np.array(values, np.int64)


def _binary_batch(member: Member, layout: Layout, where: str) -> Batch:
    """A file of records: the label bytes, then the pixels."""
    length = layout.label_bytes + PIXELS
    with member.open() as stream:
        data = stream.read(member.bytes + 1)
    if len(data) % length or len(data) != member.bytes:
        raise ProblemError(
            "dataset_invalid", f"{where}: expected records of {length} bytes, got {len(data)} bytes: no whole number"
        )
    records = np.frombuffer(data, np.uint8).reshape(-1, length)  # (images, label bytes + 3072)
    labels = _labels(records[:, layout.label_bytes - 1].tolist(), layout, where)
    return Batch(np.ascontiguousarray(records[:, layout.label_bytes :]), labels)


def _pickled_batch(member: Member, layout: Layout, where: str) -> Batch:
    """A pickled dict: an array under "data", a list under the layout's key."""
    with member.open() as stream:
        found = read_pickle(stream, member.bytes, where)
    data, labels = found.get("data"), found.get(layout.labels_key)
    if not isinstance(data, PickledArray) or len(data.shape) != 2 or data.shape[1] != PIXELS:
        got = f"shape {quoted(data.shape)}" if isinstance(data, PickledArray) else type(data).__name__
        raise ProblemError("dataset_invalid", f"{where}: expected 'data' as uint8 of shape (images, 3072), got {got}")
    if not isinstance(labels, list) or not all(type(label) is int for label in labels):
        raise ProblemError("dataset_invalid", f"{where}: expected {layout.labels_key!r} as a list of integers")
    if len(labels) != data.shape[0]:
        raise ProblemError(
            "dataset_invalid", f"{where}: expected a label an image, got {data.shape[0]} images, {len(labels)} labels"
        )
    pixels = np.frombuffer(data.data, np.uint8).reshape(data.shape, order="F" if data.fortran else "C")
    return Batch(np.ascontiguousarray(pixels), _labels(labels, layout, where))


def _class_names(member: Member, layout: Layout) -> list[str]:
    """The names of the classes, in the order of the labels."""
    where = quoted(member.name)
    if member.bytes > MAX_NAMES_BYTES:
        raise ProblemError("resource_limit", f"{where}: expected at most {MAX_NAMES_BYTES} bytes of class names")
    with member.open() as stream:
        if layout.names_key:
            listed = read_pickle(stream, member.bytes, where).get(layout.names_key)
            names = [
                name.decode("latin-1") if isinstance(name, bytes) else str(name)
                for name in (listed if isinstance(listed, list) else [])
            ]
        else:
            names = stream.read(MAX_NAMES_BYTES).decode("utf-8", "replace").split()
    if len(names) != layout.classes or not all(name.isprintable() for name in names):
        raise ProblemError("dataset_invalid", f"{where}: expected the names of {layout.classes} classes")
    return names
