"""`adtn inspect FILE`: what a compressed or plain safetensors file holds. Needs no server."""

import math
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any

import typer

from adtn_client.commands import local_files, output
from adtn_client.commands.local_files import SafetensorsHeader, StoredTensor
from adtn_client.errors import LocalError


def inspect(file: Annotated[Path, typer.Argument(help="A .safetensors file, compressed or not.")]) -> None:
    """Show the tensors of a local file; of a compressed one the layers, parameters and structures too."""
    header = local_files.read_header(file)
    if "adtn" in header.metadata:
        show_compressed(header, local_files.library("adtn.header"), file)
    else:
        show_tensors(header.tensors)
        numbers = sum(tensor.entries for tensor in header.tensors)
        output.result(f"{output.count(numbers)} numbers, {output.size(file.stat().st_size)} on disk; not compressed")


def show_compressed(header: SafetensorsHeader, library: ModuleType, file: Path) -> None:
    """Print the encoded weights, what stayed dense, and the totals.

    Raises:
        LocalError: The header of the compressed checkpoint is not valid.
    """
    try:
        parsed = library.parse_header(header.metadata, str(file))
    except library.FormatError as error:
        raise LocalError(str(error)) from error
    gates = {f"{key}.gates" for key in parsed.encoded}
    show_encoded(parsed.encoded, {tensor.name: tensor.bytes for tensor in header.tensors})
    show_tensors([tensor for tensor in header.tensors if tensor.name not in gates])
    for key, item in parsed.encoded.items():
        if item.parts:
            parts = ", ".join(f"{part.key} ({output.shape(part.shape)})" for part in item.parts)
            output.result(f"{key} is one network for {parts}")
    for alias, key in parsed.aliases.items():
        output.result(f"{alias} is tied to {key}")
    dense = sum(tensor.entries for tensor in header.tensors if tensor.name not in gates)
    stored = dense + sum(item.structure.parameters for item in parsed.encoded.values())
    original = dense + sum(math.prod(item.shape) for item in parsed.encoded.values())
    output.result(
        f"{output.count(original)} numbers stored as {output.count(stored)} (ratio {original / max(stored, 1):.1f}), "
        f"{output.size(file.stat().st_size)} on disk"
    )


def show_encoded(encoded: dict[str, Any], sizes: dict[str, int]) -> None:
    """Print a table of the encoded weights; `sizes` are bytes by the name of the tensor."""
    numbers = ("original", "stored", "ratio", "bits", "bytes")
    table = output.table("encoded", "shape", "dtype", *numbers, "structure", right=frozenset(numbers))
    for key, item in encoded.items():
        original, stored = math.prod(item.shape), item.structure.parameters
        output.add_row(
            table,
            key,
            output.shape(item.shape),
            str(item.dtype).removeprefix("torch."),
            output.count(original),
            output.count(stored),
            f"{original / stored:.1f}",
            item.bits or "float",
            output.count(sizes.get(f"{key}.gates", 0)),
            output.structure(item.structure.summary()),
        )
    output.console().print(table)


def show_tensors(tensors: Iterable[StoredTensor]) -> None:
    """Print a table of dense tensors."""
    table = output.table("tensor", "shape", "dtype", "numbers", right=frozenset({"numbers"}))
    for tensor in tensors:
        output.add_row(table, tensor.name, output.shape(tensor.shape), tensor.dtype, output.count(tensor.entries))
    output.console().print(table)
