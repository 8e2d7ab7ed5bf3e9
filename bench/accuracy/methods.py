"""The methods that are compared: this project's own, the paper's, and the peers."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from adtn.limits import MOST_NATURAL_NUMBERS
from adtn.natural import PACE, Pace
from bench.accuracy.allocation import CUBE_ROOT, SIXTH_ROOT, SQUARE_ROOT
from bench.accuracy.factors import Form
from bench.accuracy.layers import Shapes
from bench.accuracy.low_rank import low_rank
from bench.accuracy.ours import ours
from bench.accuracy.paper import paper
from bench.accuracy.storage import COMMON, Storage, in_bits
from bench.accuracy.tensorly_forms import block_tt, cp, tucker
from bench.accuracy.tt_matrix import EVEN, SMALL_MIDDLE, tt_matrix

Recipe = Callable[[Shapes, int], dict[str, Form]]
"""From the layers and a budget to each layer's form. It raises `Unreachable` where it has none as small."""


@dataclass(frozen=True)
class Method:
    """A way to store weights in fewer numbers.

    Args:
        recipes: Ways to spend a budget, by name; the validation images choose among them, and a learning rate.
        storage: Forms in which its numbers are stored, the trained one first.
        bits: In which they are trained besides, in runs of their own.
        natural: Trained numbers up to which the last seven tenths of the epochs of fine-tuning, rounded down, follow
            the natural gradient.
        crop: Pixels by which training images are moved at random, at most.
        corrects_teacher: Whether the first quarter of the epochs, rounded down, trains the baseline further, which is
            then compressed, and imitated; the rest is for fine-tuning.
        pace: Of the steps along the natural gradient, where it is not that of the first runs.
        tuned_as: Another method, whose grid it takes over, and whose choice where it has no finals of its own; None for
            its own.
    """

    recipes: Mapping[str, Recipe]
    storage: tuple[Storage, ...] = COMMON
    bits: tuple[int, ...] = ()
    natural: int = 0
    crop: int = 0
    corrects_teacher: bool = False
    pace: Pace | None = None
    tuned_as: str | None = None

    @property
    def stored_as(self) -> list[str]:
        """Names of all forms in which its numbers are stored."""
        return [form.name for form in (*self.storage, *map(in_bits, self.bits))]


FEW_NUMBERS = 4096
"""Trained numbers up to which the natural gradient takes a few times as long as Adam, and was followed at first."""
_TT_MATRIX = Method(
    {
        "even cores, cube root": tt_matrix(EVEN, CUBE_ROOT),
        "even cores, square root": tt_matrix(EVEN, SQUARE_ROOT),
        "small middle, cube root": tt_matrix(SMALL_MIDDLE, CUBE_ROOT),
        "small middle, square root": tt_matrix(SMALL_MIDDLE, SQUARE_ROOT),
    }
)
_OURS = Method(
    {
        "one term, sixth root": ours(1, SIXTH_ROOT),
        "two terms, cube root": ours(2, CUBE_ROOT),
        "three terms, cube root": ours(3, CUBE_ROOT),
        "three terms, sixth root": ours(3, SIXTH_ROOT),
    },
    bits=(6, 4),
)
_OURS_FULL = replace(_OURS, bits=(4,), natural=FEW_NUMBERS, crop=1, tuned_as="ours")
_OURS_CORRECTED = replace(_OURS_FULL, natural=MOST_NATURAL_NUMBERS, corrects_teacher=True, tuned_as="ours_full")
METHODS: dict[str, Method] = {
    "low_rank": Method({"default": low_rank}),
    "block_tt": Method({"default": block_tt}),
    "cp": Method({"default": cp}),
    "tucker": Method({"default": tucker}),
    "tt_matrix": _TT_MATRIX,
    "tt_matrix_natural": replace(_TT_MATRIX, natural=FEW_NUMBERS, tuned_as="tt_matrix"),
    "paper": Method({f"gates of {sites} sites": paper(sites) for sites in (2, 3, 4)}),
    "ours": _OURS,
    "ours_natural": replace(_OURS, bits=(4,), natural=FEW_NUMBERS, tuned_as="ours"),
    "tt_matrix_corrected": replace(
        _TT_MATRIX, natural=FEW_NUMBERS, crop=1, corrects_teacher=True, tuned_as="tt_matrix"
    ),
    "ours_full": _OURS_FULL,
    "ours_corrected": _OURS_CORRECTED,
    "ours_longer_steps": replace(_OURS_CORRECTED, pace=PACE),
}
"""In the order of the tables. No method has more recipes than its strongest peer, the TT-matrix."""
