"""What a job would do, before any tensor is read: names are checked and the plan is made from the file's layers."""

from adtn.plan import Layer, Plan, predicted_parameters
from adtn.selection import GLOB_CHARACTERS, each_name
from jobs.catalogue import (
    ARCHITECTURES,
    DATA_WITHOUT_NETWORK,
    DATASETS,
    EXPORTED_PROGRAM,
    LIBRARIES,
    PROGRAM_WITHOUT_NETWORK,
    PROGRAMS,
    split_name,
)
from jobs.files import FileRecord
from jobs.planning import fault, is_searched, plan_of, plans_to_try, shapes_to_plan
from jobs.problems import ProblemError
from jobs.records import is_file_id
from jobs.schemas.files import FileLayer
from jobs.schemas.settings import MOST_NAMES, MOST_PATTERNS, CompressionSettings, JobSettings

SEARCH_SHARE = 0.75
"""Of the longest that a job may take, the most that a search may."""
MOST_SHAPES = 200
"""The first plan for a shape takes up to a second; models that people train have some tens of shapes."""
MOST_SHAPES_OF_GIVEN_FORM = 500
"""Where their form is given: all sizes of a search take some hundredths of a second for each shape."""


def check_names(settings: JobSettings) -> None:
    """Refuse an architecture or a data set that is not known, or that is missing where it is needed.

    Which models a library has, and whether a worker has the library, is not known here: the worker looks.

    Raises:
        ProblemError: unknown_architecture, unknown_dataset, or validation_failed for a config without an architecture
            that takes one, or an accuracy that there are no data to measure.
    """
    architecture, dataset = settings.architecture, settings.dataset
    model = split_name(architecture) if architecture is not None else None
    if architecture is not None and architecture not in ARCHITECTURES and model is None:
        raise fault(
            "unknown_architecture",
            "/architecture",
            f"expected one of {', '.join(ARCHITECTURES)}, or LIBRARY/NAME with one of {', '.join(LIBRARIES)}, "
            f"got {architecture!r}",
        )
    if settings.architecture_config is not None and (model is None or model[0] != "transformers"):
        detail = f"expected a config with an architecture transformers/NAME alone, got one with {architecture!r}"
        raise fault("validation_failed", "/architecture_config", detail)
    if dataset is not None and not is_file_id(dataset) and dataset not in DATASETS:
        known = ", ".join(DATASETS)
        raise fault(
            "unknown_dataset", "/dataset", f"expected the id of a file, or one of {known}, got {settings.dataset!r}"
        )
    if dataset is None and is_searched(settings.compression):
        detail = "max_accuracy_drop needs a data set, on which the accuracy is measured"
        raise fault("validation_failed", "/compression/target/max_accuracy_drop", detail)


def check_layers(settings: JobSettings) -> None:
    """Refuse more names of layers than can be looked up in a large model while a request waits.

    Raises:
        ProblemError: validation_failed.
    """
    wanted = settings.compression.layers
    names = [] if wanted == "auto" else each_name(wanted)
    patterns = sum(not GLOB_CHARACTERS.isdisjoint(name) for name in names)
    for count, most, what in ((len(names), MOST_NAMES, "names"), (patterns, MOST_PATTERNS, "glob patterns")):
        if count > most:
            detail = f"expected at most {most:,} {what}, those in groups too, got {count:,}"
            raise fault("validation_failed", "/compression/layers", detail)


def check_time(settings: JobSettings, task_limit_s: int) -> None:
    """Refuse a search that may go on until the worker gives the job up: its trials would be lost.

    What comes before and after a search is about what one trial takes, so a quarter of the time is left for it.

    Args:
        settings: Of the job.
        task_limit_s: The longest that a job may take.

    Raises:
        ProblemError: validation_failed.
    """
    if is_searched(settings.compression) and 60 * settings.search.max_minutes > SEARCH_SHARE * task_limit_s:
        detail = (
            f"expected at most {SEARCH_SHARE * task_limit_s / 60:g} minutes, three quarters of what a whole job may "
            f"take here, got {settings.search.max_minutes:g}"
        )
        raise fault("validation_failed", "/search/max_minutes", detail)


def check_network(settings: JobSettings, checkpoint: FileRecord) -> None:
    """Refuse data and exported programs for which there is no network: neither a name, nor a graph in the checkpoint.

    Args:
        settings: Of the job.
        checkpoint: Ready.

    Raises:
        ProblemError: validation_failed or export_impossible.
    """
    if settings.architecture is not None or checkpoint.format == EXPORTED_PROGRAM:
        return
    if settings.dataset is not None:
        raise fault("validation_failed", "/dataset", DATA_WITHOUT_NETWORK)
    programs = [name for name in settings.exports if name in PROGRAMS]
    if programs:
        raise fault("export_impossible", "/exports", f"{', '.join(programs)}: {PROGRAM_WITHOUT_NETWORK}")


def plans_for(settings: CompressionSettings, checkpoint: FileRecord) -> list[Plan]:
    """The plan that the worker will make, as far as it follows from shapes; several where it has to search for one.

    Raises:
        ProblemError: See `jobs.planning.plan_of`.
    """
    layers = layers_in(checkpoint)
    if is_searched(settings):
        return plans_to_try(settings, layers)
    return [plan_of(settings, layers)]


def is_planned_here(settings: CompressionSettings, checkpoint: FileRecord) -> bool:
    """Whether a plan is made while a request waits: not for so many shapes that others would wait too.

    Raises:
        ProblemError: layer_not_found, layer_not_eligible or group_invalid.
    """
    return shapes_to_plan(settings, layers_in(checkpoint)) <= _most_shapes(settings)


def plans_while_waiting(settings: CompressionSettings, checkpoint: FileRecord) -> list[Plan]:
    """`plans_for`, where a plan is made while a request waits.

    Raises:
        ProblemError: resource_limit where it is not; or as `plans_for`.
    """
    shapes, most = shapes_to_plan(settings, layers_in(checkpoint)), _most_shapes(settings)
    if shapes > most:
        detail = (
            f"expected layers of at most {most} shapes, for which structures are chosen while you wait, got "
            f"{shapes}; a job for them may be created all the same"
        )
        raise fault("resource_limit", "/compression/structure", detail)
    return plans_for(settings, checkpoint)


def _most_shapes(settings: CompressionSettings) -> int:
    return MOST_SHAPES if settings.structure == "auto" else MOST_SHAPES_OF_GIVEN_FORM


def layers_in(checkpoint: FileRecord) -> list[Layer]:
    """All layers of a file, as planners take them."""
    return [Layer.from_json(layer) for layer in checkpoint.layers or []]


def layer_views(checkpoint: FileRecord) -> list[FileLayer]:
    """The layers as they are sent.

    What is predicted is an upper bound and follows from the shape at once. The planner's own choice takes up to seconds
    for each new shape, so a list of some tens of layers would take as long as a job's plan: an estimate tells it.
    """
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
