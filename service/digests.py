"""Digests that a client gives with an upload, to be compared with what arrived."""

import base64
import binascii
import re

from jobs.problems import ProblemError

_BYTES = re.compile(r":([A-Za-z0-9+/=]*):")
_HEXADECIMAL = re.compile(r"[0-9a-fA-F]{64}")


def expected_sha256(header: str | None, parameter: str | None) -> str | None:
    """The SHA-256 that a client announces, in hexadecimal, or None.

    Args:
        header: The value of `Repr-Digest` (RFC 9530).
        parameter: The value of `sha256`.

    Raises:
        ProblemError: malformed_request where one cannot be read, or the two differ.
    """
    found = {value for value in (_from_header(header), _from_parameter(parameter)) if value is not None}
    if len(found) > 1:
        raise ProblemError("malformed_request", "Repr-Digest and sha256 differ")
    return next(iter(found), None)


def check(expected: str | None, actual: str) -> None:
    """Compare with what arrived.

    Raises:
        ProblemError: digest_mismatch.
    """
    if expected is not None and expected != actual:
        raise ProblemError("digest_mismatch", f"expected sha256 {expected}, got {actual}")


def repr_digest(sha256: str) -> str:
    """The value of `Repr-Digest` for a SHA-256 in hexadecimal."""
    return f"sha-256=:{base64.b64encode(bytes.fromhex(sha256)).decode()}:"


def _from_header(header: str | None) -> str | None:
    for item in (header or "").split(","):
        algorithm, _, value = item.partition("=")
        if algorithm.strip().lower() != "sha-256":
            continue  # others are allowed beside it
        match = _BYTES.fullmatch(value.strip())
        try:
            digest = base64.b64decode(match[1], validate=True) if match else b""
        except binascii.Error:
            digest = b""
        if len(digest) != 32:
            raise ProblemError("malformed_request", "Repr-Digest: expected sha-256=:<base64 of 32 bytes>:")
        return digest.hex()
    return None


def _from_parameter(parameter: str | None) -> str | None:
    if parameter is None:
        return None
    if not _HEXADECIMAL.fullmatch(parameter):
        raise ProblemError("malformed_request", "sha256: expected 64 hexadecimal digits")
    return parameter.lower()
