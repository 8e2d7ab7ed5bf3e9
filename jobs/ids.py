"""Identifiers of objects: a prefix that names the kind, then what nobody can guess."""

import secrets
from typing import Literal

Prefix = Literal["file", "job", "evt", "key"]


def new_id(prefix: Prefix) -> str:
    """A new identifier with 128 random bits, such as `job_9f2c...`."""
    return f"{prefix}_{secrets.token_hex(16)}"
