"""`adtn decode FILE OUT`: a compressed checkpoint back to a dense one. Needs no server."""

import os
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from adtn_client.commands import local_files, output
from adtn_client.errors import LocalError


def decode(
    file: Annotated[Path, typer.Argument(help="A compressed checkpoint, such as model.adtn.safetensors.")],
    out: Annotated[Path, typer.Argument(help="The dense .safetensors file to write; an existing one is replaced.")],
) -> None:
    """Write the dense state_dict of a compressed checkpoint: the keys, shapes and dtypes of the original model."""
    local_files.read_header(file)
    library = local_files.library("adtn.files")
    tensors_module = local_files.library("safetensors.torch")
    try:
        state = library.decode(file)
    except library.FormatError as error:
        raise LocalError(str(error)) from error
    handle, temporary = tempfile.mkstemp(dir=out.absolute().parent, prefix=f".{out.name}.", suffix=".part")
    os.close(handle)
    try:
        # Tied entries are one tensor, which the format cannot say: each name gets a copy of its own.
        tensors_module.save_file({key: tensor.clone() for key, tensor in state.items()}, temporary)
        os.replace(temporary, out)
    except BaseException:
        Path(temporary).unlink()
        raise
    output.say(f"wrote {len(state)} tensors to {out}")
