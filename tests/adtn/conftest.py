"""What several tests of the library count."""

import pytest
from support.contractions import Contractions, count_contractions


@pytest.fixture
def contractions(monkeypatch: pytest.MonkeyPatch) -> Contractions:
    return count_contractions(monkeypatch)
