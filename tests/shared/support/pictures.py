"""Image files of known content, and archives of them."""

import io
from typing import Any

import numpy as np
from PIL import Image


def noise(height: int, width: int, channels: int, seed: int) -> np.ndarray[Any, Any]:
    """(height, width) for one channel, (height, width, channels) else; uint8."""
    shape = (height, width) if channels == 1 else (height, width, channels)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def png(pixels: np.ndarray[Any, Any]) -> bytes:
    return encoded(Image.fromarray(pixels), "PNG")


def jpeg(pixels: np.ndarray[Any, Any]) -> bytes:
    return encoded(Image.fromarray(pixels), "JPEG", quality=95)


def encoded(image: Image.Image, form: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def folder(paths: list[str], channels: int = 3, size: tuple[int, int] = (6, 5)) -> dict[str, bytes]:
    """A PNG of its own noise under every path."""
    return {path: png(noise(*size, channels, seed)) for seed, path in enumerate(paths)}


def numbered(folder_name: str, count: int, suffix: str = ".png") -> list[str]:
    return [f"{folder_name}/{number}{suffix}" for number in range(count)]
