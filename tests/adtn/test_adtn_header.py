import json
import math

import pytest
import torch

from adtn.arrangements import brick_wall, tt_matrix
from adtn.errors import FormatError
from adtn.growth import StructureChoice
from adtn.header import METADATA_KEY, Encoded, Header, Part, parse_header
from adtn.ladder import ladder
from adtn.sites import interleaved
from adtn.structure import AnyStructure, Structure, Sum

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
    header = Header({"fc1.weight": entry, "fc2.weight": Encoded((120, 40), torch.float16, EXACT)}, {"a": "fc1.weight"})
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


def header_of(shape: object, structure: object, **more: object) -> str:
    """A header of one weight, of any content."""
    entry = {"shape": shape, "dtype": "float32", "structure": structure, **more}
    return json.dumps({"version": 3, "encoded": {"w": entry}, "aliases": {}})


def binary(sites: int) -> dict[str, object]:
    """A structure of binary sites under one gate."""
    return {"dims": [2] * sites, "tn_layers": [[[0, sites]]], "activation": "none"}


@pytest.mark.parametrize("shape", [[2**70], [2**62, 4], [2**32, 2**32], [2**48 + 1], [10**4000] * 500])
def test_a_shape_of_more_than_2_to_the_48_entries_is_refused(shape: list[int]) -> None:
    """Also one whose product is 0 in 64 bits, and one whose product nobody wants to write down."""
    with pytest.raises(FormatError, match=r"file: w: expected a shape of at most 2\^48 entries, got \["):
        parse_header({METADATA_KEY: header_of(shape, binary(3))}, "file")
    part = {"key": "w", "shape": shape}
    with pytest.raises(FormatError, match=r"file: w: w: expected a shape of at most 2\^48 entries, got \["):
        parse_header({METADATA_KEY: header_of([8], binary(3), parts=[part])}, "file")


@pytest.mark.parametrize("terms", [1, 2])
@pytest.mark.parametrize("more", [{}, {"bits": 4, "scales": [1.0]}])
@pytest.mark.parametrize("sites", [49, 2_000, 20_000])
def test_a_structure_of_more_than_2_to_the_48_entries_is_refused(
    sites: int, more: dict[str, object], terms: int
) -> None:
    structure = binary(sites) if terms == 1 else {"terms": [binary(3), binary(sites)]}
    with pytest.raises(FormatError, match=r"file: w: (terms\[1\]: )?dims: expected a product of at most 2\^48, got "):
        parse_header({METADATA_KEY: header_of([1], structure, **more)}, "file")


def test_padding_of_more_than_15_times_the_weight_is_refused() -> None:
    assert parse_header({METADATA_KEY: header_of([3], binary(5))}, "file").weights() == {"w": (3,)}
    with pytest.raises(
        FormatError, match=r"w: expected a structure of at most 16 times the 3 entries of the weight, got 64"
    ):
        parse_header({METADATA_KEY: header_of([3], binary(6))}, "file")
    with pytest.raises(FormatError, match="got 64"):
        parse_header({METADATA_KEY: header_of([3], {"terms": [binary(6), binary(6)]})}, "file")


def test_a_convolution_padded_to_powers_of_two_on_every_axis_is_read() -> None:
    shape = (65, 65, 5, 5)
    padded = tuple(2 ** math.ceil(math.log2(extent)) for extent in shape)
    header = Header({"w": Encoded(shape, torch.float32, Structure(padded, (((0, 4),),)))}, {})
    assert parse_header({METADATA_KEY: header.to_text()}, "file") == header


@pytest.mark.parametrize(
    "shape", [(1,), (3,), (2, 2), (17, 1), (64, 65), (7, 11, 3, 3), (58_080,), (4096, 25088), (999_999_937,)]
)
def test_whatever_the_planner_lays_is_read(shape: tuple[int, ...]) -> None:
    structures = [StructureChoice().structure(shape), *(ladder(shape) if math.prod(shape) > 1 else ())]
    for structure in structures:
        assert structure.size <= 2 * math.prod(shape)
        header = Header({"w": Encoded(shape, torch.float32, structure)}, {})
        assert parse_header({METADATA_KEY: header.to_text()}, "file") == header


@pytest.mark.parametrize(
    "text",
    [
        '{"version":1,"encoded":{"w":ENTRY,"w":ENTRY},"aliases":{}}',
        '{"version":1,"encoded":{"w":ENTRY},"aliases":{},"encoded":{}}',
        '{"version":1,"encoded":{},"aliases":{"w":"x","w":"y"}}',
        '{"version":1,"encoded":{"w":{"shape":[4],"shape":[8]}},"aliases":{}}',
    ],
)
def test_a_name_that_stands_twice_in_an_object_is_refused(text: str) -> None:
    entry = json.dumps({"shape": [8], "dtype": "float32", "structure": binary(3)})
    with pytest.raises(FormatError, match=r"expected each name of an object once, got '(w|encoded|shape)' twice"):
        parse_header({METADATA_KEY: text.replace("ENTRY", entry)}, "file")
