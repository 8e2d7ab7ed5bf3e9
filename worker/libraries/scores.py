"""Make a library's model answer samples with a tensor of scores, whatever else it returns, under the same keys."""

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

Call = Callable[[Callable[..., object], Tensor], object]
"""Calls a model's own forward with a batch of samples."""


def answer_with_scores(model: nn.Module, call: Call = lambda forward, samples: forward(samples)) -> nn.Module:
    """Give a model a class derived from its own: (batch, ...) -> (batch, classes).

    The module itself stays as it is, keys and submodules included, so that it can be copied, hooked and traced.

    Args:
        model: Changed in place, and returned. Its forward returns scores, or what has them as `logits`.
        call: Calls it.
    """
    base: type[nn.Module] = type(model)

    class Scores(base):  # type: ignore[valid-type, misc]  # the class is known only here
        """The model, answering with scores alone."""

        def forward(self, samples: Tensor) -> Tensor:
            """Scores of a batch."""
            output: Any = call(super().forward, samples)
            # All but named tuples and dicts of results is the scores, or stands for them in a trace.
            has_more = isinstance(output, tuple | dict)
            scores: Tensor = output.logits if has_more else output
            return scores

    model.__class__ = Scores
    return model
