"""Names that users give to files, made harmless: they end up in headers, logs and pages."""

import re
import unicodedata
from urllib.parse import quote

MAX_CHARACTERS = 200
DEFAULT = "upload"


def safe_filename(name: str | None) -> str:
    """The last part of a path without control and formatting characters; never empty, `.` or `..`."""
    last = re.split(r"[\\/]", name or "")[-1]
    kept = "".join(character for character in last if unicodedata.category(character)[0] != "C").strip()
    return DEFAULT if kept in ("", ".", "..") else kept[:MAX_CHARACTERS]


def attachment(name: str) -> str:
    """The value of `Content-Disposition` that saves an answer under `name`."""
    plain = re.sub(r'[^\x20-\x7e]|["\\%]', "_", name)
    extended = "" if plain == name else f"; filename*=UTF-8''{quote(name, safe='')}"
    return f'attachment; filename="{plain}"{extended}'
