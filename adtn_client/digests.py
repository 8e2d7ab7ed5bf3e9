"""sha256 of files, as hex and as the `Repr-Digest` header writes it (RFC 9530)."""

import base64
import hashlib
from pathlib import Path


def sha256_of(path: Path) -> str:
    """The sha256 of a file as hex, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def repr_digest(sha256: str) -> str:
    """The value of a `Repr-Digest` header for a sha256 in hex."""
    return f"sha-256=:{base64.b64encode(bytes.fromhex(sha256)).decode()}:"
