"""The ADTN of arXiv:2305.06058: a brick-wall on the 2^Q flat entries of the padded weight, with ReLU."""

from collections.abc import Callable

import adtn
from bench.accuracy.allocation import CUBE_ROOT, Option, choose
from bench.accuracy.factors import Form, GatesForm
from bench.accuracy.layers import Shapes

LARGEST_DEPTH = 16


def paper(gate_sites: int) -> Callable[[Shapes, int], dict[str, Form]]:
    """A recipe: as many TN layers of such gates as the budget allows.

    Args:
        gate_sites: Sites of a gate; the paper has larger gates for larger budgets.
    """

    def forms(shapes: Shapes, budget: int) -> dict[str, Form]:
        options = {
            layer: [
                Option(GatesForm(adtn.brick_wall(adtn.sites_for(shape), depth, gate_sites)))
                for depth in range(1, LARGEST_DEPTH + 1)
            ]
            for layer, shape in shapes.items()
        }
        return choose(options, budget, CUBE_ROOT(shapes))

    return forms
