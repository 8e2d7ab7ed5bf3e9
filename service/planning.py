"""What a job would do, before any tensor is read: names are checked and the plan is made from the file's layers."""

from adtn.errors import PlanError, StructureError
from adtn.plan import Layer, Plan, StructureChoice, Target, make_plan, predicted_parameters
from jobs.catalogue import ARCHITECTURES, DATASETS
from jobs.files import FileRecord
from jobs.problems import Fault, ProblemError
from jobs.records import is_file_id
from jobs.schemas.files import FileLayer
from jobs.schemas.settings import CompressionSettings, JobSettings

POINTERS = {
    "layer_not_found": "/compression/layers",
    "layer_not_eligible": "/compression/layers",
    "nothing_to_compress": "/compression",
    "target_unreachable": "/compression/target",
}


def check_names(settings: JobSettings) -> None:
    """Refuse an architecture or a data set that is not known.

    Raises:
        ProblemError: unknown_architecture, unknown_dataset, or validation_failed for data without an architecture.
    """
    architecture, dataset = settings.architecture, settings.dataset
    if architecture is not None and architecture not in ARCHITECTURES:
        raise _fault(
            "unknown_architecture",
            "/architecture",
            f"expected one of {', '.join(ARCHITECTURES)}, got {settings.architecture!r}",
        )
    if dataset is not None and not is_file_id(dataset) and dataset not in DATASETS:
        known = ", ".join(DATASETS)
        raise _fault(
            "unknown_dataset", "/dataset", f"expected the id of a file, or one of {known}, got {settings.dataset!r}"
        )
    if dataset is not None and architecture is None:
        detail = "a data set can be used only with an architecture, since the checkpoint holds weights alone"
        raise _fault("validation_failed", "/dataset", detail)


def plan_for(settings: CompressionSettings, checkpoint: FileRecord) -> Plan:
    """The plan that the worker will make.

    Raises:
        ProblemError: layer_not_found, layer_not_eligible, target_unreachable or nothing_to_compress.
    """
    choice = StructureChoice(
        depth=None if settings.structure.depth == "auto" else settings.structure.depth,
        gate_sites=None if settings.structure.gate_sites == "auto" else settings.structure.gate_sites,
        activation=settings.structure.activation,
    )
    size = settings.target
    target = None if size is None else Target(parameters=size.parameters, ratio=size.ratio)
    names = None if settings.layers == "auto" else settings.layers
    try:
        return make_plan(layers_of(checkpoint), names, choice, target)
    except PlanError as error:
        raise _fault(error.code, POINTERS[error.code], str(error)) from error
    except StructureError as error:
        raise _fault("validation_failed", "/compression/structure", str(error)) from error


def layers_of(checkpoint: FileRecord) -> list[Layer]:
    """The layers that the inspection found."""
    return [Layer.from_json(layer) for layer in checkpoint.layers or []]


def layer_views(checkpoint: FileRecord) -> list[FileLayer]:
    """The layers as they are sent."""
    return [
        FileLayer(
            name=layer["name"],
            kind=layer["kind"],
            shape=layer["shape"],
            dtype=layer["dtype"],
            parameters=layer["parameters"],
            eligible=layer["eligible"],
            reason=layer["reason"],
            predicted_parameters=predicted_parameters(layer["shape"]) if layer["eligible"] else None,
        )
        for layer in checkpoint.layers or []
    ]


def require_ready(file: FileRecord) -> None:
    """Refuse a file that is not inspected yet, or was rejected.

    Raises:
        ProblemError: file_not_ready or file_rejected.
    """
    if file.status == "processing":
        raise ProblemError("file_not_ready", f"{file.id} is still being inspected")
    if file.status == "rejected":
        reason = file.error["detail"] if file.error else "it cannot be used"
        raise ProblemError("file_rejected", f"{file.id} was rejected: {reason}")


def _fault(code: str, pointer: str, detail: str) -> ProblemError:
    return ProblemError(code, detail, [Fault(pointer, detail, code)])
