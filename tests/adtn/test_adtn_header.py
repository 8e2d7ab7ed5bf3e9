import json

import pytest
import torch

from adtn.arrangements import brick_wall, tt_matrix
from adtn.errors import FormatError
from adtn.header import METADATA_KEY, Encoded, Header, Part, parse_header
from adtn.sites import interleaved
from adtn.structure import AnyStructure, Sum

EXACT = brick_wall(interleaved((120, 400), 4), 1)
STRUCTURES = {
    "natural order": brick_wall(16),
    "another order": EXACT,
    "sum": Sum((EXACT, tt_matrix((12, 10), (20, 20), (4,)))),
}


@pytest.mark.parametrize("structure", STRUCTURES.values(), ids=STRUCTURES)
def test_every_structure_survives_the_header(structure: AnyStructure) -> None:
    header = Header({"fc1.weight": Encoded((120, 400), torch.float32, structure)}, {})
    assert parse_header({METADATA_KEY: header.to_text()}, "file") == header


@pytest.mark.parametrize(("bits", "version"), [(None, 1), (4, 2)])
def test_bits_and_scales_survive_the_header_and_make_it_version_2(bits: int | None, version: int) -> None:
    entry = Encoded((120, 400), torch.float32, STRUCTURES["sum"], bits, () if bits is None else (0.123456789, 2.0))
    header = Header({"fc1.weight": entry, "fc2.weight": Encoded((12, 40), torch.float16, EXACT)}, {"a": "fc1.weight"})
    text = header.to_text()
    assert json.loads(text)["version"] == version
    assert parse_header({METADATA_KEY: text}, "file") == header


def joint_header(**change: object) -> str:
    """A header of two weights in one ADTN, with its entry changed."""
    parts = (Part("fc1.weight", (120, 400)), Part("fc2.weight", (84, 120)))
    entry = Encoded((58_080,), torch.float32, brick_wall(16), parts=parts)
    data = json.loads(Header({"fc1.weight": entry}, {"tied": "fc2.weight"}).to_text())
    data["encoded"]["fc1.weight"] |= change
    return json.dumps(data)


def test_parts_survive_the_header_and_make_it_version_3() -> None:
    header = parse_header({METADATA_KEY: joint_header()}, "file")
    assert json.loads(header.to_text()) == json.loads(joint_header())
    assert json.loads(joint_header())["version"] == 3
    assert header.weights() == {"fc1.weight": (120, 400), "fc2.weight": (84, 120)}


FIRST = {"key": "fc1.weight", "shape": [120, 400]}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"parts": []}, r"fc1\.weight: expected a list of parts"),
        ({"parts": {"fc1.weight": [120, 400]}}, "expected a list of parts"),
        ({"parts": [FIRST]}, r"parts that fill the shape \[58080\], .* got 48000 entries"),
        ({"parts": [FIRST, {"key": "fc2.weight"}]}, "expected parts of a key and a shape"),
        ({"parts": [FIRST, {"key": 2, "shape": [84, 120]}]}, "expected parts of a key and a shape"),
        ({"parts": [FIRST, {"key": "fc2.weight", "shape": [84, -120]}]}, "fc2.weight: expected a shape of positive"),
        ({"parts": [FIRST, {"key": "fc1.weight", "shape": [84, 120]}]}, "'fc1.weight' twice"),
        ({"parts": [{"key": "fc2.weight", "shape": [84, 120]}, FIRST]}, "the first of them 'fc1.weight'"),
        ({"shape": [120, 484]}, r"parts that fill the shape \[120, 484\]"),
    ],
)
def test_parts_that_are_wrong_are_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(FormatError, match=message):
        parse_header({METADATA_KEY: joint_header(**change)}, "file")


def test_parts_need_version_3() -> None:
    with pytest.raises(FormatError, match="expected shape, dtype and structure"):
        parse_header({METADATA_KEY: joint_header().replace('"version": 3', '"version": 2')}, "file")


def test_a_sum_that_is_too_small_for_the_weight_is_refused() -> None:
    header = Header({"fc1.weight": Encoded((120, 401), torch.float32, STRUCTURES["sum"])}, {})
    with pytest.raises(FormatError, match=r"fc1\.weight: .* 48120 entries, but the structure holds 48000"):
        parse_header({METADATA_KEY: header.to_text()}, "file")


def test_a_wrong_term_of_a_sum_says_where_it_stands() -> None:
    text = Header({"w": Encoded((120, 400), torch.float32, STRUCTURES["sum"])}, {}).to_text()
    with pytest.raises(FormatError, match=r"file: w: terms\[0\]: activation: expected one of none, .*, got 'sine'"):
        parse_header({METADATA_KEY: text.replace("relu", "sine", 1)}, "file")
