"""The one reader of untrusted bytes: uploads are opened in a throw-away child process and leave it as safetensors.

The names below are imported on first use: the child starts from this package too, and needs none of them.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from worker.sandbox.limits import Limits as Limits
    from worker.sandbox.upload import Inspection as Inspection
    from worker.sandbox.upload import Purpose as Purpose
    from worker.sandbox.upload import read_upload as read_upload

_HOME = {"Inspection": "upload", "Limits": "limits", "Purpose": "upload", "read_upload": "upload"}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
