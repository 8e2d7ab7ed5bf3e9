"""Random changes of training images: turned, stretched, cut out of a padded image, mirrored."""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from jobs.problems import Fault, ProblemError
from jobs.schemas.settings import JobSettings

Transform = Callable[[Tensor, torch.Generator], Tensor]


def augmentation(settings: JobSettings, shape: Sequence[int]) -> Transform | None:
    """What the settings of a job do to the batches of its training data.

    Args:
        settings: Of the job; `normalize` says what has become of black.
        shape: Of one sample as the model takes it: (height, width) or (channels, height, width).

    Returns:
        A function of a batch (B, *shape) and a generator, which alone decides; it returns another batch of the same
        shape. None if the settings ask for nothing.

    Raises:
        ProblemError: `dataset_mismatch` if the samples are no images.
    """
    wish = settings.augment
    if wish is None or not wish.changes_images:
        return None
    if len(shape) not in (2, 3):
        detail = f"augment: expected images, got samples of shape {tuple(shape)}"
        raise ProblemError("dataset_mismatch", detail, [Fault("/augment", detail, "dataset_mismatch")])
    black = torch.zeros(1)
    if settings.normalize is not None:
        black = -torch.tensor(settings.normalize.mean) / torch.tensor(settings.normalize.std)  # (1,) or (channels,)

    def augmented(batch: Tensor, generator: torch.Generator) -> Tensor:
        if wish.rotate or wish.stretch:
            angles = wish.rotate * math.pi / 180 * _uniform((len(batch),), generator)
            factors = 1 + wish.stretch * _uniform((len(batch), 2), generator)
            batch = distorted(batch, angles, factors, black)
        if wish.crop:
            batch = cropped(batch, wish.crop, black, generator)
        return flipped(batch, generator) if wish.flip else batch

    return augmented


def distorted(images: Tensor, angles: Tensor, factors: Tensor, black: Tensor) -> Tensor:
    """Stretch each image about its centre, then turn it there; bilinear, with black around it.

    Args:
        images: (B, height, width) or (B, channels, height, width), floating point.
        angles: (B,) in radians, counter-clockwise.
        factors: (B, 2), positive, of the height and of the width.
        black: What lies around an image, (1,) or (channels,).

    Returns:
        As `images`.
    """
    planes = images.unsqueeze(1) if images.dim() == 3 else images  # (B, channels, height, width)
    height, width = planes.shape[-2:]
    cosines, sines, (tall, wide) = angles.cos(), angles.sin(), factors.unbind(1)
    # From where in the image each place of the result comes, in halves of its width and height: (B, (x, y), (x, y, 1)).
    nowhere = torch.zeros_like(cosines)
    across = torch.stack([cosines / wide, -sines / wide * height / width, nowhere], dim=1)
    down = torch.stack([sines / tall * width / height, cosines / tall, nowhere], dim=1)
    grid = functional.affine_grid(
        torch.stack([across, down], dim=1).to(planes), list(planes.shape), align_corners=False
    )
    level = black.to(planes).reshape(1, -1, 1, 1)
    found = functional.grid_sample(planes - level, grid, align_corners=False) + level
    return found.reshape(images.shape)


def cropped(images: Tensor, padding: int, black: Tensor, generator: torch.Generator) -> Tensor:
    """Surround each image with black and cut a part of its size out, at a place of its own.

    Args:
        images: (B, height, width) or (B, channels, height, width).
        padding: Pixels on every side.
        black: What to pad with, (1,) or (channels,).
        generator: Draws the places, for all images the rows first.

    Returns:
        As `images`.
    """
    planes = images.unsqueeze(1) if images.dim() == 3 else images  # (B, channels, height, width)
    count, channels, height, width = planes.shape
    shape = (count, channels, height + 2 * padding, width + 2 * padding)
    padded = black.to(images).reshape(1, -1, 1, 1).expand(shape).clone()
    padded[..., padding : padding + height, padding : padding + width] = planes
    tops, lefts = (_draw(2 * padding + 1, count, generator, images.device) for _ in range(2))
    rows = tops[:, None] + torch.arange(height, device=images.device)  # (B, height)
    columns = lefts[:, None] + torch.arange(width, device=images.device)  # (B, width)
    image = torch.arange(count, device=images.device).reshape(-1, 1, 1, 1)
    plane = torch.arange(channels, device=images.device).reshape(1, -1, 1, 1)
    found = padded[image, plane, rows[:, None, :, None], columns[:, None, None, :]]  # (B, channels, height, width)
    return found.reshape(images.shape)


def flipped(images: Tensor, generator: torch.Generator) -> Tensor:
    """Mirror each image, left to right, with a probability of a half.

    Args:
        images: (B, ..., width).
        generator: Draws which.

    Returns:
        As `images`.
    """
    chosen = _draw(2, len(images), generator, images.device).bool()
    return torch.where(chosen.reshape(-1, *[1] * (images.dim() - 1)), images.flip(-1), images)


def _uniform(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Numbers from -1 to 1, drawn where the generator is."""
    return 2 * torch.rand(shape, generator=generator, device=generator.device) - 1


def _draw(below: int, count: int, generator: torch.Generator, device: torch.device) -> Tensor:
    """(count,) integers from 0, drawn where the generator is."""
    return torch.randint(below, (count,), generator=generator, device=generator.device).to(device)
