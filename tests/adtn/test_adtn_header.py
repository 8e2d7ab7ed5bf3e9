import json

import pytest
import torch

from adtn.arrangements import brick_wall, tt_matrix
from adtn.errors import FormatError
from adtn.header import METADATA_KEY, Encoded, Header, parse_header
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


def test_a_sum_that_is_too_small_for_the_weight_is_refused() -> None:
    header = Header({"fc1.weight": Encoded((120, 401), torch.float32, STRUCTURES["sum"])}, {})
    with pytest.raises(FormatError, match=r"fc1\.weight: .* 48120 entries, but the structure holds 48000"):
        parse_header({METADATA_KEY: header.to_text()}, "file")


def test_a_wrong_term_of_a_sum_says_where_it_stands() -> None:
    text = Header({"w": Encoded((120, 400), torch.float32, STRUCTURES["sum"])}, {}).to_text()
    with pytest.raises(FormatError, match=r"file: w: terms\[0\]: activation: expected one of none, .*, got 'sine'"):
        parse_header({METADATA_KEY: text.replace("relu", "sine", 1)}, "file")
