"""From a job's settings to its plan: the same rules in the service, which refuses, and in the worker, which encodes.

Only the parts of `adtn` that load no torch are imported here.
"""

from collections.abc import Sequence

from adtn.errors import PlanError, StructureError
from adtn.plan import Layer, Plan, StructureChoice, Target, make_plan
from jobs.problems import Fault, ProblemError
from jobs.schemas.settings import CompressionSettings

# Where in the settings the cause of each problem stands.
POINTERS = {
    "layer_not_found": "/compression/layers",
    "layer_not_eligible": "/compression/layers",
    "nothing_to_compress": "/compression",
    "target_unreachable": "/compression/target",
}


def plan_of(settings: CompressionSettings, layers: Sequence[Layer]) -> Plan:
    """The plan that settings ask for.

    Args:
        settings: Layers, structure and target.
        layers: All that the checkpoint has.

    Raises:
        ProblemError: layer_not_found, layer_not_eligible, target_unreachable, nothing_to_compress, or
            validation_failed for a structure that cannot be built.
    """
    structure = settings.structure
    choice = StructureChoice(
        depth=None if structure.depth == "auto" else structure.depth,
        gate_sites=None if structure.gate_sites == "auto" else structure.gate_sites,
        activation=structure.activation,
    )
    target = settings.target
    try:
        return make_plan(
            layers,
            None if settings.layers == "auto" else settings.layers,
            choice,
            Target(parameters=target.parameters, ratio=target.ratio) if target else None,
        )
    except PlanError as error:
        raise fault(error.code, POINTERS[error.code], str(error)) from error
    except StructureError as error:
        raise fault("validation_failed", "/compression/structure", str(error)) from error


def fault(code: str, pointer: str, detail: str) -> ProblemError:
    """A problem with a single cause, at `pointer` in the settings."""
    return ProblemError(code, detail, [Fault(pointer, detail, code)])
