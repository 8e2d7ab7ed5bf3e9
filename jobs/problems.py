"""What can go wrong, by name: one table of stable codes, one exception that carries a code.

Worker and service raise the same exception. The service renders it as an RFC 9457 problem; the worker stores it as the
`error` of a file or a job. So a mistake reads the same wherever it is found.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

# code: (HTTP status, title)
PROBLEMS: dict[str, tuple[int, str]] = {
    "malformed_request": (400, "The request cannot be read"),
    "unauthorized": (401, "A valid API key is needed"),
    "forbidden": (403, "The request comes from elsewhere"),
    "not_found": (404, "There is no such object"),
    "method_not_allowed": (405, "The method is not allowed here"),
    "not_acceptable": (406, "No such representation"),
    "file_in_use": (409, "A job uses this file"),
    "file_not_ready": (409, "The file is still being inspected"),
    "job_not_finished": (409, "The job has not finished"),
    "job_finished": (409, "The job has already finished"),
    "job_not_retryable": (409, "Only failed and cancelled jobs can be retried"),
    "idempotency_in_flight": (409, "The first request with this key is still in flight"),
    "request_timeout": (408, "The body stopped arriving"),
    "too_large": (413, "The body is too large"),
    "unsupported_media_type": (415, "The media type is not supported"),
    "range_not_satisfiable": (416, "The range is outside the file"),
    "validation_failed": (422, "The request does not fit the schema"),
    "idempotency_key_reused": (422, "The key was used for another request"),
    "digest_mismatch": (422, "The bytes do not match the digest"),
    "empty_file": (422, "The file is empty"),
    "truncated_file": (422, "The file is cut short or damaged"),
    "unsupported_format": (422, "The format is not supported"),
    "not_a_checkpoint": (422, "The file holds no tensors by name"),
    "checkpoint_ambiguous": (422, "The file holds the weights of several models"),
    "checkpoint_contains_code": (422, "The file holds pickled code"),
    "checkpoint_invalid": (422, "The checkpoint holds what cannot be accepted"),
    "non_finite_values": (422, "The file holds NaN or infinite values"),
    "dataset_invalid": (422, "The data set cannot be used"),
    "labels_out_of_range": (422, "A label is outside the model's classes"),
    "dataset_mismatch": (422, "The data set does not fit the model"),
    "wrong_purpose": (422, "The file was uploaded for another purpose"),
    "file_rejected": (422, "The file was rejected"),
    "unknown_architecture": (422, "The architecture is not known"),
    "architecture_unavailable": (422, "The worker lacks the library of the architecture"),
    "architecture_config_invalid": (422, "The configuration does not make a model of the architecture"),
    "unknown_dataset": (422, "The data set is not known"),
    "checkpoint_mismatch": (422, "The checkpoint does not fit the architecture"),
    "layer_not_found": (422, "A layer name matches nothing"),
    "layer_not_eligible": (422, "A layer cannot be encoded"),
    "group_invalid": (422, "Layers cannot share a network as asked for"),
    "target_unreachable": (422, "The target cannot be met"),
    "accuracy_not_kept": (422, "No model that was tried keeps the accuracy"),
    "nothing_to_compress": (422, "No layer would get smaller"),
    "resource_limit": (422, "The file needs more than the worker allows"),
    "out_of_memory": (422, "The job needs more memory than the worker has"),
    "time_limit": (422, "The job takes longer than the worker allows"),
    "training_diverged": (422, "The training came to nothing"),
    "natural_epochs_impossible": (422, "The model cannot be trained along the natural gradient"),
    "export_impossible": (422, "An export cannot be made"),
    "verification_failed": (500, "An artifact does not reproduce the reported result"),
    "worker_lost": (500, "The worker was lost"),
    "internal_error": (500, "An unexpected error"),
    "not_ready": (503, "The service cannot work at the moment"),
    "queue_unavailable": (503, "The queue cannot be reached"),
    "storage_full": (507, "The storage is full"),
}


@dataclass(frozen=True)
class Fault:
    """One fault inside a problem: where (a JSON pointer or a tensor's name), what, and a stable code."""

    pointer: str
    detail: str
    code: str


@dataclass
class ProblemError(Exception):
    """A mistake with a stable code; `detail` says what was expected, what came, and where.

    Raises:
        KeyError: The code is not in `PROBLEMS`.
    """

    code: str
    detail: str
    errors: Sequence[Fault] = field(default_factory=tuple)

    def __post_init__(self) -> None:
        super().__init__(self.detail)
        self.status, self.title = PROBLEMS[self.code]

    def to_json(self) -> dict[str, Any]:
        """The problem as it is stored and sent, but for what only a request knows (`instance`, `request_id`)."""
        return {
            "type": f"urn:adtn:problem:{self.code}",
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
            "code": self.code,
            "errors": [asdict(fault) for fault in self.errors],
        }
