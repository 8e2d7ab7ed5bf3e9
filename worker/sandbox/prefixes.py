"""Prefixes that wrappers put before every key of a state_dict; without them the keys are the network's own."""

import re
from collections.abc import Collection

WRAPPERS = {"module.": "nn.DataParallel", "_orig_mod.": "torch.compile"}
# A LightningModule usually holds the network under one of these names; elsewhere they are part of the network's own.
LIGHTNING = {"model.": "LightningModule", "net.": "LightningModule"}

PREFIX = "^(?:" + "|".join(re.escape(part) for part in (*WRAPPERS, *LIGHTNING)) + ")*$"
"""What a prefix looks like."""


def common_prefix(keys: Collection[str], *, lightning: bool) -> str:
    """What wrappers have put before every key, "" if nothing; of several wrappers all of it.

    Args:
        keys: At least one, none of which is empty or ends with a dot.
        lightning: Whether the checkpoint was written by Lightning.
    """
    known = (*WRAPPERS, *(LIGHTNING if lightning else ()))
    prefix = ""
    while found := next((part for part in known if all(key.startswith(prefix + part) for key in keys)), None):
        prefix += found
    return prefix


def prefix_note(prefix: str, keys: int) -> str:
    """What a user should know of it."""
    parts = [f"{part}." for part in prefix.split(".")[:-1]]
    wrappers = ", ".join(dict.fromkeys((WRAPPERS | LIGHTNING)[part] for part in parts))
    return f"prefix '{prefix}' ({wrappers}) removed from {keys} keys; the artifacts have it again"
