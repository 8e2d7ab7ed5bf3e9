"""What a report warns of when a graph is run: where it cannot do what the model's own code could."""

from worker.graphs.model import GraphModel
from worker.graphs.modules import BatchNorm
from worker.graphs.operators import NORMS_WITH_STATISTICS
from worker.graphs.schema import Graph, Node, Size


def caveats(graph: Graph, model: GraphModel) -> list[dict[str, str]]:
    """Caveats of a graph, each a stable code and a sentence.

    Args:
        graph: As it was read.
        model: Built from it.
    """
    found = []
    steps = zip(graph.nodes, model.program.steps, strict=True)
    frozen = [node for node, step in steps if _has_statistics(node) and not _is_trained(model, step.call)]
    if frozen:
        found.append(
            {
                "code": "graph_norms_frozen",
                "detail": f"{len(frozen)} norms of the graph keep their running means and variances in fine-tuning: it "
                "was exported with them in evaluation mode, in a form that does not say how they were trained",
            }
        )
    if graph.input.batch.least > 1:
        found.append({"code": "graph_fixed_batch", "detail": _batches(graph.input.batch)})
    return found


def _has_statistics(node: Node) -> bool:
    return node.operator in NORMS_WITH_STATISTICS and node.arguments.get("running_mean") is not None


def _is_trained(model: GraphModel, call: object) -> bool:
    module = model.get_submodule(call) if isinstance(call, str) else None
    return isinstance(module, BatchNorm) and not module.frozen


def _batches(batch: Size) -> str:
    return (
        f"the graph takes batches of {batch} samples: larger ones are cut, and smaller ones filled up by repeating "
        "samples. Exported with a dynamic batch dimension, the model would be trained and run faster"
    )
