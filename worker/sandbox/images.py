"""One untrusted image: PNG or JPEG, its size known and accepted before a pixel is decoded."""

import io
import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from jobs.problems import ProblemError

FORMATS = ("PNG", "JPEG")
MAX_PIXELS = 2**24
MAX_FILE_BYTES = 2**26
# Pillow warns of more pixels than this, which `_opened` makes an error; twice as many are an error by itself.
Image.MAX_IMAGE_PIXELS = MAX_PIXELS
GREY_MODES = {"1", "L", "LA"}
COLOUR_MODES = {"P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr"}
ALPHA_MODES = {"LA", "PA", "RGBA"}
# What Pillow raises on broken bytes.
BROKEN = (OSError, SyntaxError, ValueError, EOFError, IndexError, KeyError, TypeError, struct.error)


@dataclass(frozen=True)
class Header:
    """What an image says of itself: height and width in pixels, whether it is stored in grey, whether it has alpha."""

    height: int
    width: int
    is_grey: bool
    has_alpha: bool


def header_of(data: bytes, where: str) -> Header:
    """The header of an image; no pixel is decoded.

    Args:
        data: The whole file.
        where: The place in the upload, for messages.

    Raises:
        ProblemError: `dataset_invalid` if it is neither PNG nor JPEG or has more than 8 bits a channel;
            `resource_limit` if it has more than `MAX_PIXELS` pixels; `truncated_file`.
    """
    with _opened(data, where) as image:
        if image.mode not in GREY_MODES | COLOUR_MODES:
            raise ProblemError(
                "dataset_invalid", f"{where}: expected 8 bits a channel, grey or colour, got the mode {image.mode}"
            )
        has_alpha = image.mode in ALPHA_MODES or "transparency" in image.info
        return Header(image.height, image.width, image.mode in GREY_MODES, has_alpha)


def pixels_of(data: bytes, channels: int, where: str) -> NDArray[np.uint8]:
    """The decoded image; alpha is dropped, the orientation that a camera noted is not applied.

    Args:
        data: The whole file, whose header was accepted.
        channels: 1 for grey, 3 for red, green, blue.
        where: The place in the upload, for messages.

    Returns:
        Shape (channels, height, width).

    Raises:
        ProblemError: `truncated_file` if it is cut short or damaged.
    """
    with _opened(data, where) as image:
        pixels = np.asarray(image.convert("L" if channels == 1 else "RGB"))
    if channels == 1:
        return pixels[None]  # (height, width) -> (1, height, width)
    return np.ascontiguousarray(pixels.transpose(2, 0, 1))  # (height, width, 3) -> (3, height, width)


@contextmanager
def _opened(data: bytes, where: str) -> Iterator[Image.Image]:
    """The image, not decoded yet; what Pillow raises in the block becomes a problem."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(data), formats=FORMATS) as image:
                yield image
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise ProblemError("resource_limit", f"{where}: expected an image of at most {MAX_PIXELS} pixels") from error
    except UnidentifiedImageError as error:
        raise ProblemError(
            "dataset_invalid", f"{where}: expected a PNG or JPEG image, got a file that starts {data[:8].hex(' ')}"
        ) from error
    except BROKEN as error:
        raise ProblemError("truncated_file", f"{where}: the image is cut short or damaged") from error
