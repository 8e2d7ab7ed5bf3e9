"""What enters the sigmoid or softmax at the end of a graph: fine-tuning compares that with labels, not the shares."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace

from torch import nn

from adtn.losses import Classes
from worker.graphs.model import GraphModel, Program, Step
from worker.graphs.schema import Reference

SIGMOIDS = ("aten.sigmoid.default", "aten.sigmoid_.default")
SOFTMAXES = ("aten.softmax.int", "aten._softmax.default")
OF_CLASSES = (1, -1)
"""The dimension of outputs (batch, classes) over which a softmax gives shares of classes."""


@contextmanager
def giving_logits(*models: nn.Module | None) -> Iterator[Classes]:
    """Run a block in which models return logits.

    Args:
        models: Of the same graph. A graph that ends with a sigmoid or a softmax over the classes runs without it; any
            other model is left as it is, and so is None.

    Yields:
        How their logits become shares.
    """
    found: Classes = "exclusive"
    with ExitStack() as stack:
        for model in models:
            if isinstance(model, GraphModel) and (classes := shares_of(model.program)) is not None:
                found = classes
                stack.callback(setattr, model, "program", model.program)
                model.program = without_last(model.program)
        yield found


def shares_of(program: Program) -> Classes | None:
    """How a program makes shares of logits in its last step; None if it does not."""
    last = program.steps[-1] if program.steps else None
    if last is None or last.results != program.output or not isinstance(last.positional[0], Reference):
        return None
    if str(last.call) in SIGMOIDS:
        return "independent"
    if str(last.call) in SOFTMAXES and _argument(last, 1, "dim") in OF_CLASSES:
        return "exclusive"
    return None


def without_last(program: Program) -> Program:
    """The program up to what its last step reads."""
    *steps, last = program.steps
    entering = last.positional[0]
    assert isinstance(entering, Reference)
    return replace(program, steps=tuple(steps), output=entering.value)


def _argument(step: Step, position: int, name: str) -> object:
    return step.positional[position] if len(step.positional) > position else step.keywords.get(name)
