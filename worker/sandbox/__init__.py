"""The one reader of untrusted bytes: uploads are opened in a throw-away child process and leave it as safetensors."""

from worker.sandbox.limits import Limits
from worker.sandbox.upload import Inspection, Purpose, read_upload

__all__ = ["Inspection", "Limits", "Purpose", "read_upload"]
