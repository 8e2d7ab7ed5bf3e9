"""Compress trained PyTorch models: weights are encoded as deep, automatically differentiable tensor networks (ADTNs).

The names below are imported on first use, so `import adtn.structure` and `import adtn.plan` load no torch.
"""

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

__version__: str  # of the installed package

if TYPE_CHECKING:
    from adtn.arrangements import brick_wall as brick_wall
    from adtn.arrangements import fat_blocks as fat_blocks
    from adtn.arrangements import mixed_brick_wall as mixed_brick_wall
    from adtn.arrangements import staircase as staircase
    from adtn.arrangements import tt_matrix as tt_matrix
    from adtn.compression import EncodedLayer as EncodedLayer
    from adtn.compression import compress as compress
    from adtn.contraction import contract as contract
    from adtn.decoding import decoded_once as decoded_once
    from adtn.encoding import encode as encode
    from adtn.encoding import encode_together as encode_together
    from adtn.encoding import encoded as encoded
    from adtn.errors import AdtnError as AdtnError
    from adtn.errors import BlockEnded as BlockEnded
    from adtn.errors import ExportError as ExportError
    from adtn.errors import FormatError as FormatError
    from adtn.errors import NothingToTrain as NothingToTrain
    from adtn.errors import NotSampleWise as NotSampleWise
    from adtn.errors import PlanError as PlanError
    from adtn.errors import ShapeError as ShapeError
    from adtn.errors import StructureError as StructureError
    from adtn.errors import TrainingDiverged as TrainingDiverged
    from adtn.exporting import save_program as save_program
    from adtn.files import FORMAT_VERSION as FORMAT_VERSION
    from adtn.files import decode as decode
    from adtn.files import load as load
    from adtn.files import save as save
    from adtn.fine_tune_options import FineTuneOptions as FineTuneOptions
    from adtn.fine_tuning import FineTuned as FineTuned
    from adtn.fine_tuning import fine_tune as fine_tune
    from adtn.fitting import FitOptions as FitOptions
    from adtn.fitting import fit as fit
    from adtn.layer import Layer as Layer
    from adtn.listing import layers_of as layers_of
    from adtn.listing import layers_of_state as layers_of_state
    from adtn.module import ADTN as ADTN
    from adtn.moments import InputMoments as InputMoments
    from adtn.moments import input_moments as input_moments
    from adtn.onnx_export import save_onnx as save_onnx
    from adtn.plan import Plan as Plan
    from adtn.plan import PlanEntry as PlanEntry
    from adtn.plan import StructureChoice as StructureChoice
    from adtn.plan import Target as Target
    from adtn.plan import make_plan as make_plan
    from adtn.plan import predicted_parameters as predicted_parameters
    from adtn.sites import Sites as Sites
    from adtn.sites import interleaved as interleaved
    from adtn.sites import mixed_radix as mixed_radix
    from adtn.sites import sites_for as sites_for
    from adtn.storing import stored_bytes as stored_bytes
    from adtn.structure import Structure as Structure
    from adtn.structure import Sum as Sum

_HOME = {
    "ADTN": "module",
    "FORMAT_VERSION": "files",
    "AdtnError": "errors",
    "BlockEnded": "errors",
    "EncodedLayer": "compression",
    "ExportError": "errors",
    "FineTuneOptions": "fine_tune_options",
    "FineTuned": "fine_tuning",
    "FitOptions": "fitting",
    "InputMoments": "moments",
    "FormatError": "errors",
    "Layer": "layer",
    "NothingToTrain": "errors",
    "NotSampleWise": "errors",
    "Plan": "plan",
    "PlanEntry": "plan",
    "PlanError": "errors",
    "ShapeError": "errors",
    "Sites": "sites",
    "Structure": "structure",
    "StructureChoice": "plan",
    "StructureError": "errors",
    "Sum": "structure",
    "Target": "plan",
    "TrainingDiverged": "errors",
    "brick_wall": "arrangements",
    "compress": "compression",
    "contract": "contraction",
    "decode": "files",
    "decoded_once": "decoding",
    "encode": "encoding",
    "encode_together": "encoding",
    "encoded": "encoding",
    "fat_blocks": "arrangements",
    "fine_tune": "fine_tuning",
    "fit": "fitting",
    "layers_of": "listing",
    "layers_of_state": "listing",
    "input_moments": "moments",
    "interleaved": "sites",
    "load": "files",
    "make_plan": "plan",
    "mixed_brick_wall": "arrangements",
    "mixed_radix": "sites",
    "predicted_parameters": "plan",
    "save": "files",
    "save_onnx": "onnx_export",
    "save_program": "exporting",
    "sites_for": "sites",
    "staircase": "arrangements",
    "stored_bytes": "storing",
    "tt_matrix": "arrangements",
}

__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return version("adtn")
    if name not in _HOME:
        raise AttributeError(f"module 'adtn' has no attribute {name!r}")
    value = getattr(import_module(f"adtn.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
