"""How the hostile tests read: through the real sandbox, and they look at what it leaves behind."""

from pathlib import Path

import pytest
from hostile_files import Refuse

from jobs.problems import ProblemError
from worker.sandbox import Limits, Purpose, read_upload


@pytest.fixture
def refuse(tmp_path: Path) -> Refuse:
    """Reads bytes that have to be refused and returns the problem; nothing may be left in the output folder."""
    out = tmp_path / "out"
    out.mkdir()

    def read(data: bytes, purpose: Purpose, filename: str = "upload", limits: Limits | None = None) -> ProblemError:
        source = tmp_path / "source"
        source.write_bytes(data)
        with pytest.raises(ProblemError) as caught:
            read_upload(source, purpose, filename, out, limits or Limits())
        assert list(out.iterdir()) == []
        return caught.value

    return read
