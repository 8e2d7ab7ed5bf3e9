"""Safetensors files that the library accepts, crashes on or is slow with; both purposes share one reader of headers."""

import pytest
from hostile_files import Refuse, entry, safetensors_bytes

GOOD = {"a": entry("F32", [2], 0, 8)}
DEEP = '{"a":' * 100_000 + "1" + "}" * 100_000

INVALID = {
    "a header of 2**40 bytes": (safetensors_bytes(GOOD, bytes(8), length=2**40), "at most 5000000 bytes, got 1099511"),
    "a header of 6 MB": (safetensors_bytes("{" + " " * 6_000_000 + "}"), "at most 5000000 bytes"),
    "a key twice": (
        safetensors_bytes('{"a":%s,"a":%s}' % ((str(GOOD["a"]).replace("'", '"'),) * 2), bytes(8)),
        "'a' more than once",
    ),
    "a field twice": (
        safetensors_bytes('{"a":{"dtype":"F32","dtype":"F64","shape":[1],"data_offsets":[0,4]}}', bytes(4)),
        "'dtype' more than once",
    ),
    "a hole": (safetensors_bytes(GOOD | {"b": entry("F32", [1], 12, 16)}, bytes(16)), "leaves a hole"),
    "an overlap": (safetensors_bytes(GOOD | {"b": entry("F32", [2], 4, 12)}, bytes(12)), "overlaps"),
    "one place for two": (safetensors_bytes(GOOD | {"b": entry("F32", [2], 0, 8)}, bytes(8)), "overlaps"),
    "bytes after the end": (safetensors_bytes(GOOD, bytes(9)), "the file goes on"),
    "an absurd shape": (safetensors_bytes({"a": entry("F32", [0, 2**50], 0, 0)}), "at least one element"),
    "a product that overflows": (safetensors_bytes({"a": entry("F32", [2**33, 2**33], 0, 16)}, bytes(16)), "need"),
    "a shape of other bytes": (safetensors_bytes({"a": entry("F32", [3], 0, 8)}, bytes(8)), "need '12' bytes"),
    "a negative size": (safetensors_bytes({"a": entry("F32", [-1, -2], 0, 8)}, bytes(8)), "expected integers"),
    "a size as text": (safetensors_bytes({"a": entry("F32", ["2"], 0, 8)}, bytes(8)), "expected integers"),  # type: ignore[list-item]
    "a size as boolean": (safetensors_bytes({"a": entry("F32", [True, 2], 0, 8)}, bytes(8)), "expected integers"),
    "offsets backwards": (safetensors_bytes({"a": entry("F32", [2], 8, 0)}, bytes(8)), "need"),
    "an unknown dtype": (safetensors_bytes({"a": entry("F8_E4M3", [2], 0, 2)}, bytes(2)), "'F8_E4M3'"),
    "nine dimensions": (safetensors_bytes({"a": entry("F32", [1] * 9, 0, 4)}, bytes(4)), "at most 8 dimensions"),
    "a path as name": (safetensors_bytes({"../../x": entry("F32", [1], 0, 4)}, bytes(4)), "'../../x'"),
    "a newline in a name": (safetensors_bytes({"a\nb": entry("F32", [1], 0, 4)}, bytes(4)), r"'a\nb'"),
    "a name of 600 letters": (safetensors_bytes({"a" * 600: entry("F32", [1], 0, 4)}, bytes(4)), "at most 512"),
    "no fields": (safetensors_bytes({"a": []}), "expected dtype, shape and data_offsets"),
    "a list as header": (safetensors_bytes("[]      {", length=7), "expected"),
    "metadata that is no text": (safetensors_bytes({"__metadata__": {"a": [1]}}), "strings to strings"),
    "no JSON": (safetensors_bytes("{nothing}"), "not JSON"),
    "no UTF-8": (safetensors_bytes('{"a": 1}').replace(b'"a"', b'"\xff"'), "not JSON"),
    "nesting without end": (safetensors_bytes(DEEP), "not JSON"),
}


@pytest.mark.parametrize("name", INVALID)
def test_a_header_that_is_not_exact_is_refused(refuse: Refuse, name: str):
    data, said = INVALID[name]
    problem = refuse(data, "dataset", "data.safetensors")
    assert problem.code == "dataset_invalid"
    assert said in problem.detail
    assert problem.detail.isprintable()


def test_too_many_tensors_are_refused(refuse: Refuse):
    header = {str(i): entry("U8", [1], i, i + 1) for i in range(100_001)}
    problem = refuse(safetensors_bytes(header, bytes(100_001)), "dataset", "data.safetensors")
    # 100,001 names do not fit into the largest header either; both limits refuse it.
    assert problem.code == "dataset_invalid"


@pytest.mark.parametrize("data", [safetensors_bytes(GOOD, bytes(5)), safetensors_bytes(GOOD, bytes(8))[:20], b"\x10\0"])
def test_a_file_cut_short_is_refused(refuse: Refuse, data: bytes):
    assert refuse(data, "dataset", "data.safetensors").code == "truncated_file"


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (INVALID["a key twice"][0], "checkpoint_invalid"),
        (safetensors_bytes({}), "not_a_checkpoint"),
        (safetensors_bytes(GOOD, bytes(5)), "truncated_file"),
        (safetensors_bytes(GOOD, b"\x00\x00\x80\x7f\x00\x00\x00\x00"), "non_finite_values"),
    ],
)
def test_a_checkpoint_in_safetensors_is_refused_with_its_own_code(refuse: Refuse, data: bytes, code: str):
    assert refuse(data, "checkpoint", "model.safetensors").code == code
