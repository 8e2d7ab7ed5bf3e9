"""What a reader of data sets found: the tensors to write, and what the summary says of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from worker.sandbox.tensor_file import Outgoing

SPLITS = ("train", "val", "test")
"""All that a data set may have, in the order in which they are told."""
MAX_CLASS_NAMES = 100
MAX_CLASS_NAME = 100
DTYPES = {"U8": "uint8", "F32": "float32"}


@dataclass(frozen=True)
class Contents:
    """A checked data set on its way out of the child.

    Attributes:
        format: How it was stored.
        tensors: train_x, test_x, train_y, test_y, perhaps val_x and val_y; for images of several sizes train_pixels,
            train_sizes and so on take the place of train_x.
        splits: Samples of each split.
        shape: Of one sample; None for a size that differs.
        classes: Their number.
        dtype: Of the samples, as safetensors names it.
        class_names: In the order of the labels, where they are known.
        notes: What a user should know of how the file was read.
    """

    format: str
    tensors: Sequence[Outgoing]
    splits: Mapping[str, int]
    shape: Sequence[int | None]
    classes: int
    dtype: str
    class_names: Sequence[str] = ()
    notes: Sequence[str] = ()

    def answer(self) -> dict[str, Any]:
        """The JSON of `worker.sandbox.answer.Answer`; of many class names the first are listed, long ones are cut."""
        notes = list(self.notes)
        if len(self.class_names) > MAX_CLASS_NAMES:
            notes.append(f"of the {len(self.class_names)} class names the first {MAX_CLASS_NAMES} are listed")
        return {
            "format": self.format,
            "summary": {
                "splits": dict(self.splits),
                "shape": list(self.shape),
                "classes": self.classes,
                "dtype": DTYPES[self.dtype],
                "class_names": [name[:MAX_CLASS_NAME] for name in self.class_names[:MAX_CLASS_NAMES]],
                "notes": notes,
            },
            "layers": [],
            "aliases": {},
        }
