"""A loader of the gates in a file that follows the README of the library: torch and safetensors, nothing of adtn."""

import json
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor


def standalone_decode(path: Path) -> dict[str, Tensor]:
    """The gates of every encoded weight, as floats, flat."""
    with safe_open(path, "pt") as file:
        header = json.loads(file.metadata()["adtn"])
        tensors = {key: file.get_tensor(f"{key}.gates") for key in header["encoded"]}
    return {key: gates_of(tensors[key], item) for key, item in header["encoded"].items()}


def gates_of(tensor: Tensor, item: dict) -> Tensor:
    if "bits" not in item:
        return tensor
    dtype = torch.float64 if item["dtype"] == "float64" else torch.float32
    groups = group_counts(item["structure"])
    numbers = torch.tensor(read_integers(bytes(tensor.tolist()), sum(groups), item["bits"]), dtype=dtype)
    scales = torch.tensor(item["scales"], dtype=dtype)
    return numbers * scales.repeat_interleave(torch.tensor(groups))


def group_counts(structure: dict) -> list[int]:
    """How many numbers share each scale."""
    groups = []
    for term in structure.get("terms", [structure]):
        touched, layers = set(), []
        for layer in term["tn_layers"]:
            count = 0
            for start, stop in layer:
                size = 1
                for site in range(start, stop):
                    size *= term["dims"][site] ** (2 if site in touched else 1)
                touched.update(range(start, stop))
                count += size
            layers.append(count)
        groups += [sum(layers)] if term["activation"] in ("none", "relu", "leaky_relu") else layers
    return groups


def read_integers(data: bytes, count: int, bits: int) -> list[int]:
    highest = 2 ** (bits - 1) - 1
    # The distribution: a frequency for each size of an integer.
    m = (16 + data[0] % 16) << (data[0] // 16)
    ratio = (m * m << 32) // (m * m + 2048)
    twice = ratio * ratio >> 32
    weights = [1 << 32]
    for _ in range(highest):
        weights.append(weights[-1] * ratio >> 32)
        ratio = ratio * twice >> 32
    total = 2 * sum(weights) - weights[0]
    sizes = [1 + (weight << 15) // total for weight in weights]
    frequencies = [sizes[abs(k)] for k in range(-highest, highest + 1)]
    # The range decoder.
    code, width = int.from_bytes(data[1:5].ljust(4, b"\0"), "big"), 2**32 - 1
    rest = iter(data[5:] + b"\0\0\0")
    numbers = []
    for _ in range(count):
        unit = width // sum(frequencies)
        k = -highest
        while code >= unit * frequencies[k + highest]:
            code -= unit * frequencies[k + highest]
            k += 1
        width = unit * frequencies[k + highest]
        while width < 2**24:
            code, width = code << 8 | next(rest), width << 8
        numbers.append(k)
    return numbers
