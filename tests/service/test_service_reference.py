"""The pages that are made from the code are those of the code of today."""

import pytest

from jobs.schemas.settings import JobSettings
from service.reference import DOCS, PAGES, settings_of


@pytest.mark.parametrize("name", PAGES)
def test_the_page_is_up_to_date(name: str) -> None:
    assert (DOCS / name).read_text() == PAGES[name](), "run python -m service.reference"


def test_every_setting_is_told_once_and_says_what_it_does() -> None:
    rows = list(settings_of(JobSettings.model_json_schema()))
    paths = [row.path for row in rows]
    assert len(set(paths)) == len(paths)
    assert {"checkpoint", "compression.structure.depth", "compression.target.ratio", "fine_tune.epochs"} <= set(paths)
    assert [row.path for row in rows if not row.description or "|" in row.description] == []


def test_a_row_says_what_a_value_may_be_and_its_default() -> None:
    rows = {row.path: row for row in settings_of(JobSettings.model_json_schema())}
    assert rows["checkpoint"].default == "required"
    assert (rows["fine_tune.batch_size"].allowed, rows["fine_tune.batch_size"].default) == (
        "whole number from 1 to 65,536",
        "`256`",
    )
    assert rows["compression.structure.depth"].allowed == "whole number from 1 to 64 or `auto`"
    assert rows["compression.structure.activation"].allowed == "`none`, `relu`, `leaky_relu`, `tanh`, `gelu`"
