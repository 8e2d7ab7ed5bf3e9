"""A graph tried out without numbers: whether each operator can be called as it is, and what memory results take."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from jobs.problems import ProblemError
from worker.graphs.build import build
from worker.graphs.schema import Graph

MAX_SAMPLE_BYTES = 2**30
"""Of all results for one sample together, views of other results counted as well."""


def try_out(graph: Graph, tensors: Mapping[str, Tensor], sample: Sequence[int] | None = None) -> tuple[int, ...]:
    """Run a graph on tensors that have shapes and no numbers.

    Args:
        graph: What to run.
        tensors: All that it holds, by key; they are not read.
        sample: Sizes of one sample; by default those of the example that the model was exported with.

    Returns:
        The shape of the output for one sample.

    Raises:
        ProblemError: `checkpoint_invalid` if an operator cannot be called so, or the output has not a row a sample;
            `resource_limit` if the results take too much memory.
    """
    meta: dict[int, Tensor] = {}
    for tensor in tensors.values():
        meta.setdefault(id(tensor), tensor.detach().to("meta"))
    model = build(graph, {key: meta[id(tensor)] for key, tensor in tensors.items()}).eval()
    count = graph.input.batch.example
    sizes = tuple(size.example for size in graph.input.sample) if sample is None else tuple(sample)
    inputs = torch.empty((count, *sizes), dtype=getattr(torch, graph.input.dtype), device="meta")
    try:
        with torch.no_grad():
            output: object = model.run(inputs, _Counter(count * MAX_SAMPLE_BYTES))
    except ProblemError:
        raise
    except Exception as error:  # an operator may refuse its arguments in any way
        where = "; ".join(getattr(error, "__notes__", []))
        raise ProblemError("checkpoint_invalid", f"{where}: {_first_line(error)}") from error
    if not isinstance(output, Tensor) or output.dim() == 0 or len(output) != count:
        shape = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
        raise ProblemError(
            "checkpoint_invalid", f"expected an output with a row for each of {count} samples, got {shape}"
        )
    return tuple(output.shape[1:])


class _Counter:
    """Adds up the bytes of results, and refuses too many."""

    def __init__(self, limit: int) -> None:
        self._left = self._limit = limit

    def __call__(self, result: object) -> None:
        for item in result if isinstance(result, tuple | list) else (result,):
            if isinstance(item, Tensor):
                self._left -= item.nbytes
        if self._left < 0:
            raise ProblemError("resource_limit", f"expected results of at most {self._limit} bytes, got more")


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), "")[:300] or type(error).__name__
