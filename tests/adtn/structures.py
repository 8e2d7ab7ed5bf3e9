"""Structures drawn by hypothesis, and some that are too large for that."""

from hypothesis import strategies as st

from adtn import brick_wall, staircase
from adtn.structure import ACTIVATIONS, Structure

LARGE = {
    "brick-wall": brick_wall(17, 3),
    "staircase": staircase(15, 2, 3),
    "up and down, with gaps": Structure(
        (2,) * 15,
        (tuple((i, i + 2) for i in reversed(range(14))), ((0, 2), (9, 11), (1, 4), (4, 6)), ((6, 15),)),
        "tanh",
    ),
    "mixed": brick_wall((10, 12, 20, 20), 3),
}
"""Tensors on which gates act together: see `adtn.circle.LARGE`."""


@st.composite
def structures(draw: st.DrawFn) -> Structure:
    """Any structure: mixed dimensions, spans in any order, gaps, sites that are touched late."""
    dims = tuple(draw(st.lists(st.integers(2, 4), min_size=1, max_size=7)))
    spans = st.integers(0, len(dims) - 1).flatmap(
        lambda start: st.integers(start + 1, min(start + 4, len(dims))).map(lambda stop: (start, stop))
    )
    layers = draw(st.lists(st.lists(spans, min_size=1, max_size=7), min_size=1, max_size=3))
    touched = {site for layer in layers for start, stop in layer for site in range(start, stop)}
    rest = [(site, site + 1) for site in range(len(dims)) if site not in touched]
    layers[-1].extend(draw(st.permutations(rest)))
    order = tuple(draw(st.permutations(range(len(dims)))))
    return Structure(dims, tuple(tuple(layer) for layer in layers), draw(st.sampled_from(ACTIVATIONS)), order)
