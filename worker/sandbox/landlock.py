"""Landlock: the kernel lets a process without privileges limit which files it can open from now on."""

import ctypes
import os
from collections.abc import Iterable
from pathlib import Path

# linux/landlock.h; the numbers are the same on all architectures.
CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446
VERSION_FLAG = 1
RULE_PATH_BENEATH = 1
READ_FILE, READ_DIR = 1 << 2, 1 << 3
# Rights on files that each version of the interface knows: all of them are refused unless a rule allows them.
FILE_RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}
NETWORK_RIGHTS = 0b11  # bind and connect over TCP, since version 4
SCOPES = 0b11  # abstract sockets of, and signals to, processes outside; since version 6
# Bytes of the attributes that each version reads.
SIZES = {1: 8, 4: 16, 6: 24}


class RulesetAttributes(ctypes.Structure):
    """`struct landlock_ruleset_attr` as of version 6."""

    _fields_ = (("files", ctypes.c_uint64), ("network", ctypes.c_uint64), ("scoped", ctypes.c_uint64))


class PathBeneath(ctypes.Structure):
    """`struct landlock_path_beneath_attr`."""

    _pack_ = 1
    _fields_ = (("allowed", ctypes.c_uint64), ("folder", ctypes.c_int32))


def restrict_reading(folders: Iterable[Path]) -> bool:
    """Allow this process to read files below `folders`, and no other file, TCP port or process; open files stay usable.

    Returns:
        Whether the kernel has Landlock and accepted the rules. Needs `no_new_privs`.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    version = libc.syscall(CREATE_RULESET, None, ctypes.c_size_t(0), VERSION_FLAG)
    if version < 1:
        return False
    rights = (1 << FILE_RIGHTS[min(version, max(FILE_RIGHTS))]) - 1
    attributes = RulesetAttributes(rights, NETWORK_RIGHTS, SCOPES)
    size = max(size for known, size in SIZES.items() if known <= version)
    ruleset = libc.syscall(CREATE_RULESET, ctypes.byref(attributes), ctypes.c_size_t(size), 0)
    if ruleset < 0:
        return False
    try:
        for folder in folders:
            _allow(libc, ruleset, folder)
        return bool(libc.syscall(RESTRICT_SELF, ruleset, 0) == 0)
    finally:
        os.close(ruleset)


def _allow(libc: ctypes.CDLL, ruleset: int, folder: Path) -> None:
    """Add the rule that files below `folder` may be read and listed."""
    descriptor = os.open(folder, os.O_PATH | os.O_CLOEXEC)
    try:
        rule = PathBeneath(READ_FILE | READ_DIR, descriptor)
        libc.syscall(ADD_RULE, ruleset, RULE_PATH_BENEATH, ctypes.byref(rule), 0)
    finally:
        os.close(descriptor)
