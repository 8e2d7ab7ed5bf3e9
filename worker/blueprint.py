"""From what a job's network is built: the name of an architecture, or the graph that its checkpoint carries.

No part of it needs `adtn`: a dense artifact is verified where that is not installed.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from jobs.catalogue import split_name
from worker import architectures, libraries
from worker.architectures import Architecture
from worker.graphs.network import network
from worker.graphs.schema import Graph
from worker.graphs.stored import read_graph
from worker.weights import read_constants


@dataclass(frozen=True)
class Blueprint:
    """How to build a network. Without a name and a graph there is none: then there are weights alone.

    Attributes:
        architecture: A name that `worker.architectures` or `worker.libraries` knows, or None.
        graph_file: The path of the checked checkpoint whose graph is taken, or None.
        config: Of an architecture that is built by one, or None.
    """

    architecture: str | None
    graph_file: str | None
    config: Mapping[str, Any] | None = None

    @property
    def is_known(self) -> bool:
        """Whether there is a network."""
        return self.architecture is not None or self.graph_file is not None

    @property
    def graph(self) -> Graph | None:
        """The graph, if the network is built from one."""
        return None if self.graph_file is None else read_graph(Path(self.graph_file))

    def build(self, state: Mapping[str, Tensor], input_shape: tuple[int, ...] | None) -> Architecture:
        """Build the network and load it.

        Args:
            state: The whole state dict.
            input_shape: Of one sample; None if there are no data.

        Raises:
            ProblemError: The weights do not fit the network, or the samples do not.
        """
        if self.architecture is not None and split_name(self.architecture) is not None:
            return libraries.build(self.architecture, state, input_shape, self.config)
        if self.architecture is not None:
            return architectures.build(self.architecture, state, input_shape)
        graph = self.graph
        assert self.graph_file is not None
        assert graph is not None
        return network(graph, {**state, **read_constants(Path(self.graph_file))}, input_shape)


def blueprint_for(architecture: str | None, config: Mapping[str, Any] | None, checkpoint: Path) -> Blueprint:
    """The blueprint of a job's network; a name that the job gives goes before the checkpoint's graph.

    Args:
        architecture: Named by the job, or None.
        config: Given by the job, or None.
        checkpoint: A safetensors file that the sandbox wrote.
    """
    has_graph = architecture is None and read_graph(checkpoint) is not None
    return Blueprint(architecture, str(checkpoint) if has_graph else None, config)
