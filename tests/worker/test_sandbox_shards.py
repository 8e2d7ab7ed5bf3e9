"""Sharded safetensors: what an index and its shards say together, and every way in which they may disagree."""

import gzip
import io
import json
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save
from torch import Tensor

from jobs.problems import ProblemError
from worker.sandbox import Limits, read_upload
from worker.sandbox.archives import checked_zip, tar_members, zip_members
from worker.sandbox.shards import holds_index, sharded_tensors

INDEX = "model.safetensors.index.json"
FIRST, SECOND = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"
LIMIT = 2**24
STATE = {
    "embed.weight": torch.arange(12.0).reshape(3, 4),
    "layer.bias": torch.arange(3.0, dtype=torch.float64),
    "layer.weight": torch.full((2, 5), 0.5, dtype=torch.bfloat16),
}
PLACES = {"embed.weight": FIRST, "layer.bias": SECOND, "layer.weight": SECOND}


def files_of(places: Mapping[str, object] = PLACES, **changed: bytes | None) -> dict[str, bytes]:
    """The files as a library writes them; those that `changed` names by "index", "first" or "second" are others."""
    files = {
        "index": json.dumps({"metadata": {"total_size": 92}, "weight_map": places}).encode(),
        "first": save({"embed.weight": STATE["embed.weight"]}, {"format": "pt"}),
        "second": save({key: STATE[key] for key in ("layer.bias", "layer.weight")}, {"format": "pt"}),
    } | changed
    names = {"index": INDEX, "first": FIRST, "second": SECOND}
    return {names.get(name, name): content for name, content in files.items() if content is not None}


def zipped(files: Mapping[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def tarred(files: Mapping[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def tensors(data: bytes, limit: int = LIMIT) -> tuple[dict[str, Tensor], list[str]]:
    source = io.BytesIO(data)
    if data.startswith(b"PK"):
        members = zip_members(checked_zip(source, len(data), "checkpoint_invalid"))
    else:
        members = tar_members(source, limit, "checkpoint_invalid")
    assert holds_index(members)
    return sharded_tensors(members, limit)


def refused(files: Mapping[str, bytes], limit: int = LIMIT) -> ProblemError:
    with pytest.raises(ProblemError) as caught:
        tensors(zipped(files), limit)
    return caught.value


@pytest.mark.parametrize("folder", ["", "my-model/"])
@pytest.mark.parametrize("pack", [zipped, tarred, lambda files: gzip.compress(tarred(files))], ids=["zip", "tar", "gz"])
def test_tensors_come_out_as_they_went_in(pack: object, folder: str):
    assert callable(pack)
    files = {f"{folder}{name}": content for name, content in files_of(**{"config.json": b"{}"}).items()}
    found, notes = tensors(pack(files))
    assert list(found) == list(STATE)
    for key, tensor in STATE.items():
        assert found[key].dtype == tensor.dtype
        assert torch.equal(found[key], tensor)
    assert notes == [f"weights taken from 2 shards as '{folder}{INDEX}' says; left out: '{folder}config.json'"]


REFUSED = {
    "missing shard": (files_of(second=None), f"the archive lacks '{SECOND}'"),
    "tensor elsewhere": (
        files_of({**PLACES, "layer.bias": FIRST}),
        f"tensor 'layer.bias': expected it in '{FIRST}' as the index says; it is in '{SECOND}'",
    ),
    "tensor nowhere": (files_of({**PLACES, "head.weight": FIRST}), "it is in none"),
    "tensor unnamed": (
        files_of({key: PLACES[key] for key in ("embed.weight", "layer.bias")}),
        f"'{SECOND}' holds it, but the index does not name it",
    ),
    "tensor twice": (files_of(first=save(STATE)), f"'{FIRST}' holds it, but the index says '{SECOND}'"),
    "path up": (files_of({**PLACES, "layer.bias": "../" + SECOND}), "beside the index, got '../model-00002"),
    "absolute path": (files_of({**PLACES, "layer.bias": "/etc/passwd"}), "beside the index, got '/etc/passwd'"),
    "other file": (
        files_of({**PLACES, "layer.bias": "pytorch_model.bin"}),
        "beside the index, got 'pytorch_model.bin'",
    ),
    "shard no text": (files_of({**PLACES, "layer.bias": 3}), "beside the index, got '3'"),
    "key twice": (files_of(index=b'{"weight_map": {"a": "x", "a": "y"}}'), "names 'a' more than once"),
    "no JSON": (files_of(index=b"weight_map"), "is not JSON"),
    "no map": (files_of(index=b"{}"), "to have a weight_map"),
    "no tensors": (files_of({}), "to have a weight_map with 1"),
    "shard no safetensors": (files_of(first=bytes(64)), f"shard '{FIRST}': the header is not JSON"),
    "member up": (files_of(**{"../evil.txt": b"x"}), "names that stay in the archive, got '../evil.txt'"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_index_and_shards_that_do_not_agree_are_refused(case: str):
    files, said = REFUSED[case]
    problem = refused(files)
    assert problem.code == "checkpoint_invalid"
    assert said in problem.detail


def test_a_shard_cut_short_is_refused():
    whole = files_of()[SECOND]
    assert refused(files_of(second=whole[:-1])).code == "truncated_file"
    assert refused(files_of(second=b"")).code == "truncated_file"


def test_shards_that_expand_beyond_the_limit_are_refused():
    big = save({"embed.weight": torch.zeros(2**18)})
    assert refused(files_of(first=big), 2**20).code == "resource_limit"


def test_two_indices_are_refused_by_name():
    problem = refused(files_of(**{f"ema/{INDEX}": b"{}"}))
    assert problem.code == "checkpoint_ambiguous"
    assert f"'ema/{INDEX}'" in problem.detail


def test_a_member_that_a_tar_holds_twice_is_refused():
    data = tarred(files_of())
    with pytest.raises(ProblemError) as caught:
        tensors(data[: data.rindex(b"ustar") - 257] + tarred(files_of()))
    assert "more than once" in caught.value.detail


def test_shards_pass_the_sandbox(tmp_path: Path):
    source, out = tmp_path / "model.zip", tmp_path / "out"
    out.mkdir()
    source.write_bytes(zipped(files_of()))
    found = read_upload(source, "checkpoint", source.name, out, Limits())
    assert found.format == "safetensors_shards"
    assert [layer["name"] for layer in found.layers] == ["embed", "layer"]
    stored = load_file(found.tensors)
    assert stored.keys() == STATE.keys()
    assert all(torch.equal(stored[key], STATE[key]) for key in STATE)
