"""Formats are told apart by content, also where one begins like another."""

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save

from worker.sandbox.formats import START_BYTES, format_of


def safetensors_with_header_of(length: int) -> bytes:
    """A safetensors file whose header has exactly this many bytes."""
    tensors = {"weight": torch.zeros(2, 2)}
    plain = save(tensors)
    used = int.from_bytes(plain[:8], "little")
    header = plain[8 : 8 + used] + b" " * (length - used)
    return length.to_bytes(8, "little") + header + plain[8 + used :]


@pytest.mark.parametrize("purpose", ["checkpoint", "dataset"])
@pytest.mark.parametrize("magic", [b"\x80\x02", b"\x1f\x8b", b"\x80\x04\x95"])
def test_safetensors_whose_length_begins_like_a_pickle_or_gzip_is_safetensors(purpose: str, magic: bytes) -> None:
    file = safetensors_with_header_of(int.from_bytes(magic, "little"))
    assert file.startswith(magic)
    assert format_of(file[:START_BYTES], purpose, "upload") == "safetensors"


def test_files_that_libraries_write_are_what_they_are(tmp_path: Path) -> None:
    zipped, legacy, arrays = io.BytesIO(), io.BytesIO(), io.BytesIO()
    torch.save({"weight": torch.zeros(2)}, zipped)
    torch.save({"weight": torch.zeros(2)}, legacy, _use_new_zipfile_serialization=False)
    np.savez(arrays, train_x=np.zeros(2))
    assert zipfile.is_zipfile(zipped)
    assert format_of(zipped.getvalue()[:START_BYTES], "checkpoint", "") == "zip"
    assert format_of(legacy.getvalue()[:START_BYTES], "checkpoint", "") == "pickle"
    assert format_of(arrays.getvalue()[:START_BYTES], "dataset", "") == "zip"
    assert format_of(save({"weight": torch.zeros(2)})[:START_BYTES], "checkpoint", "") == "safetensors"
