"""Read a compressed checkpoint as the dense state_dict of the original model. Needs torch and safetensors only.

    model.load_state_dict(decode("model.adtn.safetensors"))

or, to write a dense file:

    python adtn_loader.py model.adtn.safetensors model.dense.safetensors

The file holds, for each encoded weight, the gates of a tensor network whose contraction is the weight. Nothing in it is
run. Decoding takes the memory of the original weights, however small the file; and meanwhile, for one network at a
time, that of a few tensors of its size, which is at most 16 times that of its weights.
"""

import json
import math
import sys
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from functools import reduce
from itertools import accumulate
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional

NEWEST_VERSION = 3
DTYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16, "float32": torch.float32, "float64": torch.float64}
ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "none": lambda x: x,
    "relu": torch.relu,
    "leaky_relu": functional.leaky_relu,
    "tanh": torch.tanh,
    "gelu": functional.gelu,
}


def decode(path: str | Path) -> dict[str, Tensor]:
    """The dense state_dict: original keys, shapes and dtypes, on the CPU; tied entries are the same tensor.

    Args:
        path: Of the compressed checkpoint.

    Raises:
        ValueError: The file is not a compressed checkpoint, was written by a newer program, or says what does not fit
            together. A header that has other fields than the format's may raise other errors.
        SafetensorError: It is no safetensors file, or is cut short.
    """
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata() or {}
        state: dict[str, Tensor] = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - not a mapping
    if "adtn" not in metadata:
        raise ValueError(f"{path}: expected the metadata entry 'adtn'; this is not a compressed checkpoint")
    header = json.loads(metadata["adtn"])
    if header["version"] > NEWEST_VERSION:
        raise ValueError(f"{path}: expected version {NEWEST_VERSION} or older, got {header['version']}")
    for key, item in header["encoded"].items():
        if f"{key}.gates" not in state:
            raise ValueError(f"{path}: {key}: expected the tensor {key + '.gates'!r}, which is missing")
        try:
            for name, weight in weights(flat_weights(state.pop(f"{key}.gates"), item), item, key):
                if name in state:
                    raise ValueError(f"expected the tensor {name!r} once, got it twice")
                state[name] = weight
        except (ValueError, KeyError) as error:
            raise ValueError(f"{path}: {key}: {error}") from error
    for alias, key in header["aliases"].items():
        if key not in state or alias in state:
            raise ValueError(f"{path}: alias {alias!r}: expected a further name of a stored tensor, got {key!r}")
    return state | {alias: state[key] for alias, key in header["aliases"].items()}


def weights(flat: Tensor, item: dict[str, Any], key: str) -> Iterator[tuple[str, Tensor]]:
    """The weights that the entry `key` of the header stands for, with their names."""
    parts, entries = item.get("parts", [{"key": key, "shape": item["shape"]}]), math.prod(item["shape"])
    counts = [math.prod(part["shape"]) for part in parts]
    if sum(counts) != entries or any(extent < 1 for part in parts for extent in part["shape"]):
        raise ValueError(f"expected positive shapes of {entries} entries, got {[part['shape'] for part in parts]}")
    for part, weight in zip(parts, torch.split(flat[:entries], counts), strict=True):
        # The copy lets go of the padding and of the other parts.
        yield part["key"], weight.view(part["shape"]).to(DTYPES[item["dtype"]], copy=True)


def flat_weights(stored: Tensor, item: dict[str, Any]) -> Tensor:
    """What the gates of one entry of the header contract to: its weights joined, and padding."""
    networks = item["structure"].get("terms", [item["structure"]])
    layers = [numbers_of_layers(network) for network in networks]
    dtype, gates = torch.float64 if DTYPES[item["dtype"]] == torch.float64 else torch.float32, stored
    if "bits" in item:
        if item["bits"] not in range(2, 9):
            raise ValueError(f"bits: expected 2 to 8, got {item['bits']}")
        groups = [count for own, network in zip(layers, networks, strict=True) for count in scale_groups(network, own)]
        integers = torch.tensor(read_integers(bytes(stored.tolist()), sum(groups), item["bits"]), dtype=dtype)
        scales = torch.tensor(item["scales"], dtype=dtype)  # one a group
        gates = integers * scales.repeat_interleave(torch.tensor(groups))
    count = sum(map(sum, layers))
    if gates.shape != (count,) or gates.dtype != dtype:
        raise ValueError(f"gates: expected {count} numbers of {dtype}, got {tuple(gates.shape)} of {gates.dtype}")
    sizes, entries = {math.prod(network["dims"]) for network in networks}, math.prod(item["shape"])
    if len(sizes) > 1 or not entries <= max(sizes) <= 16 * entries:
        raise ValueError(f"expected networks with the entries of shape {item['shape']}, got {sorted(sizes)} entries")
    parts = torch.split(gates, [sum(own) for own in layers])
    return reduce(torch.add, map(contract, parts, networks))


def gates_of(network: dict[str, Any]) -> Iterator[tuple[int, int, int, int]]:
    """For each gate in order: its TN layer, its first site, and the rows and columns of its matrix.

    All sites start as a constant vector, of which a gate that is the first to touch a site reads one entry.
    """
    dims = network["dims"]
    current = [1] * len(dims)
    for number, layer in enumerate(network["tn_layers"]):
        for start, stop in layer:
            if not 0 <= start < stop <= len(dims):
                raise ValueError(f"tn_layers: expected 0 <= start < stop <= {len(dims)}, got {[start, stop]}")
            yield number, start, math.prod(dims[start:stop]), math.prod(current[start:stop])
            current[start:stop] = dims[start:stop]
    if current != dims:
        raise ValueError("tn_layers: expected a gate on every site, got a site without")


def numbers_of_layers(network: dict[str, Any]) -> list[int]:
    """How many numbers the gates of each TN layer have."""
    counts = [0] * len(network["tn_layers"])
    for number, _, rows, columns in gates_of(network):
        counts[number] += rows * columns
    return counts


def scale_groups(network: dict[str, Any], layers: list[int]) -> list[int]:
    """How many numbers share each scale: those of a TN layer, or all where the activation lets factors through."""
    return [sum(layers)] if network["activation"] in ("none", "relu", "leaky_relu") else layers


def contract(gates: Tensor, network: dict[str, Any]) -> Tensor:
    """The tensor of one network, flat: every gate is a matrix product on its own sites.

    The sites lie in a circle. A gate takes its sites from the front and leaves them at the back, so that the next one
    often finds its own in front.
    """
    dims, front, layer, begin = network["dims"], 0, 0, 0
    current = [1] * len(dims)  # dimension of each site so far
    state = gates.new_ones(1)
    spans = (span for own in network["tn_layers"] for span in own)
    for (number, start, rows, columns), (_, stop) in zip(gates_of(network), spans, strict=True):
        if number > layer:
            state, layer = ACTIVATIONS[network["activation"]](state), number
        gate = gates[begin : begin + rows * columns].view(rows, columns)
        begin += rows * columns
        state = rotated(state, current, front, start).view(columns, -1)  # (own sites, others)
        state = (state.T @ gate.T).reshape(-1)  # (others, own sites)
        current[start:stop] = dims[start:stop]
        front = stop
    state = rotated(state, current, front, 0)
    order = network.get("order", range(len(dims)))
    return state.view(dims).permute(*order).reshape(-1)


def rotated(state: Tensor, current: list[int], front: int, start: int) -> Tensor:
    """The tensor with the site `start` in front, where it had `front`."""
    ahead = current[front:start] if start >= front else current[front:] + current[:start]
    return state.view(math.prod(ahead), -1).T.reshape(-1)


def read_integers(data: bytes, count: int, bits: int) -> list[int]:
    """Integers of so many bits from the bytes of a range coder; the first byte tells their distribution."""
    highest, rest = 2 ** (bits - 1) - 1, iter(data + bytes(3))
    code, width = 0, 2**32 - 1

    def symbol(starts: Sequence[int]) -> int:
        """The next one, where `starts` are the frequencies of all symbols before each, added up, then those of all."""
        nonlocal code, width
        unit = width // starts[-1]
        found = bisect_right(starts, code // unit) - 1
        code, width = code - unit * starts[found], unit * (starts[found + 1] - starts[found])
        while width < 2**24:
            code, width = code << 8 | next(rest), width << 8
        return found

    try:
        starts = starts_of(next(rest), highest)
        code = int.from_bytes([next(rest) for _ in range(4)], "big")
        integers = [symbol(starts) - highest for _ in range(count)]
        complete = symbol(range(257)) == 0 and code < 2**24 and next(rest, None) is None
    except (StopIteration, IndexError):  # the bytes have ended, or stand for no symbol
        complete = False
    if not complete:
        raise ValueError(f"gates: expected the code of {count} integers of {bits} bits, got {len(data)} other bytes")
    return integers


def starts_of(parameter: int, highest: int) -> list[int]:
    """The frequencies of all before each integer from -highest to highest, added up; then those of all.

    They are close to a normal distribution.
    """
    m = (16 + parameter % 16) << parameter // 16
    ratio = (m * m << 32) // (m * m + 2048)
    twice, weights = ratio * ratio >> 32, [1 << 32]
    for _ in range(highest):
        weights.append(weights[-1] * ratio >> 32)
        ratio = ratio * twice >> 32
    total = 2 * sum(weights) - weights[0]
    positive = [1 + (weight << 15) // total for weight in weights]
    return list(accumulate([*positive[:0:-1], *positive], initial=0))


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(f"usage: python {Path(sys.argv[0]).name} COMPRESSED DENSE")
    save_file({key: tensor.clone() for key, tensor in decode(sys.argv[1]).items()}, sys.argv[2], {"format": "pt"})
