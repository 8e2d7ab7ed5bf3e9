"""What can go wrong in the library.

    AdtnError
    ├── StructureError      a structure is not valid in itself
    ├── ShapeError          tensors do not fit a structure, a shape or each other
    ├── PlanError           the wishes for a plan cannot be met; carries a stable `code`
    ├── FormatError         a file is not what it should be
    ├── ExportError         a model cannot be written in another form
    ├── BlockEnded          a gradient reaches a weight of a `decoded_once` block that has ended
    ├── NothingToTrain      every parameter of a model is frozen
    ├── NotSampleWise       natural-gradient steps need fewer numbers, or samples that do not depend on each other
    └── TrainingDiverged    a loss is no longer finite

Every message says what was expected, what came instead, and where.
"""

from typing import Literal

PlanErrorCode = Literal[
    "layer_not_found", "layer_not_eligible", "group_invalid", "target_unreachable", "nothing_to_compress"
]


class AdtnError(Exception):
    """Base of every error that the library raises on purpose."""


class StructureError(AdtnError):
    """A structure is not valid: a gate outside the sites, a site without a gate, an unknown activation."""


class ShapeError(AdtnError):
    """Tensors do not fit: a wrong shape or number of entries, or values that cannot be encoded."""


class PlanError(AdtnError):
    """No plan meets the wishes.

    Args:
        code: What is the matter, as a stable word.
        message: The same in full.
    """

    def __init__(self, code: PlanErrorCode, message: str) -> None:
        super().__init__(message)
        self.code: PlanErrorCode = code


class FormatError(AdtnError):
    """A file is not a compressed checkpoint that this version can read, or does not fit the model."""


class ExportError(AdtnError):
    """A model cannot be traced, or what an export needs is not installed."""


class BlockEnded(AdtnError):
    """A backward pass reaches a weight of a `decoded_once` block that has ended: its gates would learn nothing."""


class NothingToTrain(AdtnError):
    """No gate and no other parameter of the model is to be trained."""


class NotSampleWise(AdtnError):
    """Natural-gradient steps cannot be made: too many numbers are trained, or samples depend on each other."""


class TrainingDiverged(AdtnError):
    """The loss of a fit or of fine-tuning is NaN or infinite."""
