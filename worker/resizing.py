"""Images in another size: stretched, bilinear with antialiasing, as Pillow's `resize` with BILINEAR does it."""

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor
from torch.nn import functional

from jobs.problems import Fault, ProblemError
from worker.sandbox.contents import SPLITS

POINTER = "/image/resize"
MAX_NUMBERS = 2**32
"""Of all images of a split together: as float32 they take 16 GiB."""
_PART = 2**24  # numbers that are resized at a time

Size = tuple[int, int]  # height and width, in pixels


def resized(images: Tensor, size: Size) -> Tensor:
    """Images of one size in another one.

    Args:
        images: (N, channels, height, width) or (N, height, width); uint8 or float32.
        size: Of every image afterwards.

    Returns:
        The same with the other height and width; 8-bit images stay 8-bit images.

    Raises:
        ProblemError: `dataset_mismatch` if the samples are no images; `resource_limit`.
    """
    if images.dim() not in (3, 4):
        raise refused("dataset_mismatch", f"expected images, got samples of shape {tuple(images.shape[1:])}")
    shape = (*images.shape[:-2], *size)
    found = _empty(shape, images.dtype)
    planes = images.unsqueeze(1) if images.dim() == 3 else images  # (N, channels, height, width)
    step = max(1, _PART // max(planes[0].numel(), found[0].numel()))
    for start in range(0, len(images), step):
        part = _stretched(planes[start : start + step], size)  # (part, channels, *size)
        found[start : start + step] = part.reshape(len(part), *shape[1:])
    return found


def resized_split(path: Path, split: str, size: Size | None) -> Tensor:
    """The images of a split that the sandbox kept in their own sizes; one of them is in memory at a time.

    Args:
        path: A checked file as `worker.sandbox.image_folder` describes it.
        split: "train", "val" or "test".
        size: Of every image afterwards; None where the settings ask for none.

    Returns:
        (N, channels, *size), uint8.

    Raises:
        ProblemError: `dataset_mismatch` without a size, naming the first two sizes; `dataset_invalid` if the file does
            not hold together; `resource_limit`.
    """
    with safe_open(path, "pt") as file:
        sizes, pixels = file.get_tensor(f"{split}_sizes"), file.get_slice(f"{split}_pixels")
        if size is None:
            stored = set(file.keys())
            names = [name for name in SPLITS if f"{name}_sizes" in stored]
            differing = _differing({name: file.get_tensor(f"{name}_sizes") for name in names})
            raise refused("dataset_mismatch", differing)
        channels = _channels(sizes, pixels.get_shape()[0])
        found = _empty((len(sizes), channels, *size), torch.uint8)
        start = 0
        for number, (height, width) in enumerate(sizes.tolist()):
            stop = start + channels * height * width
            image = pixels[start:stop].reshape(1, channels, height, width)  # from (numbers,)
            found[number] = _stretched(image, size)[0]
            start = stop
    return found


def refused(code: str, detail: str) -> ProblemError:
    """A problem whose cause is the setting."""
    return ProblemError(code, f"image.resize: {detail}", [Fault(POINTER, detail, code)])


def _empty(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """Room for images, if there may be so many numbers."""
    numbers = torch.Size(shape).numel()
    if numbers > MAX_NUMBERS:
        raise refused("resource_limit", f"expected at most {MAX_NUMBERS} numbers in a split, got {numbers}")
    return torch.empty(shape, dtype=dtype)


def _stretched(images: Tensor, size: Size) -> Tensor:
    """(N, channels, height, width) -> (N, channels, *size), of the same dtype."""
    if tuple(images.shape[-2:]) == size:
        return images
    found = functional.interpolate(images.float(), size, mode="bilinear", antialias=True, align_corners=False)
    return found.round_().clamp_(0, 255).to(torch.uint8) if images.dtype == torch.uint8 else found


def _channels(sizes: Tensor, numbers: int) -> int:
    """1 or 3: as many as make the sizes and the number of pixels agree."""
    if sizes.dim() == 2 and sizes.shape[1] == 2 and bool((sizes > 0).all()):
        area = sum(int(height) * int(width) for height, width in sizes.tolist())
        if numbers in (area, 3 * area):
            return numbers // area
    raise ProblemError("dataset_invalid", "the sizes of the images do not fit their pixels")


def _differing(splits: Mapping[str, Tensor]) -> str:
    """Which two images first differ in size."""
    named = [(f"{split} image {n}", size) for split in splits for n, size in enumerate(splits[split].tolist())]
    first, size = named[0]
    other, differing = next((name, found) for name, found in named if found != size)
    return (
        f"expected a height and width, for the images differ in size: {first} is {size[0]} x {size[1]} pixels "
        f"(height x width), {other} is {differing[0]} x {differing[1]}"
    )
