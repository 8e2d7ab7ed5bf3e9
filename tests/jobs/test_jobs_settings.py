"""Settings of the installation, and settings of a job."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from jobs.schemas.settings import JobSettings
from jobs.settings import Settings

FILE = "file_" + "0" * 32


def test_everything_is_kept_in_the_data_dir_by_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ADTN_DATA_DIR", str(tmp_path))
    settings = Settings()
    assert settings.database_url == f"sqlite:///{tmp_path}/adtn.db"
    assert settings.store_url == f"file://{tmp_path}/objects"
    assert settings.broker_url == f"redis+socket://{tmp_path}/redis.sock"


def test_each_url_can_be_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ADTN_DATABASE_URL", "postgresql+psycopg://db/adtn")
    monkeypatch.setenv("ADTN_STORE_URL", "s3://bucket/prefix")
    monkeypatch.setenv("ADTN_BROKER_URL", "redis://cache:6379/1")
    settings = Settings()
    assert (settings.database_url, settings.store_url, settings.broker_url) == (
        "postgresql+psycopg://db/adtn",
        "s3://bucket/prefix",
        "redis://cache:6379/1",
    )


@pytest.mark.parametrize("name", ["a#b", "a?b", "a%41"])
def test_a_data_dir_that_urls_would_cut_short_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="without any of") as error:
        Settings(data_dir=tmp_path / name)
    assert error.value.errors()[0]["loc"] == ("data_dir",)


@pytest.mark.parametrize(
    ("host", "require_keys", "is_open"),
    [
        ("127.0.0.1", False, False),
        ("127.0.0.2", False, False),
        ("::1", False, False),
        ("localhost", False, False),
        ("0.0.0.0", False, True),
        ("::", False, True),
        ("10.0.0.5", False, True),
        ("example.org", False, True),
        ("0.0.0.0", True, False),
    ],
)
def test_only_an_address_of_this_machine_needs_no_keys(host: str, require_keys: bool, is_open: bool) -> None:
    assert Settings(host=host, require_keys=require_keys).open_to_the_network is is_open


def test_a_job_needs_nothing_but_a_checkpoint() -> None:
    settings = JobSettings(checkpoint=FILE)
    assert (settings.compression.layers, settings.compression.structure) == ("auto", "auto")
    assert settings.fine_tune.gate_learning_rate == "auto"
    assert settings.compression.gate_bits is None
    assert settings.exports == ["adtn", "dense"]


@pytest.mark.parametrize("name", ["normalize", "augment"])
def test_null_stands_for_nothing_done_to_the_images(name: str) -> None:
    without = JobSettings.model_validate({"checkpoint": FILE})
    assert JobSettings.model_validate({"checkpoint": FILE, name: None}) == without
    assert getattr(without, name) is None


def test_settings_survive_being_stored() -> None:
    settings = JobSettings.model_validate(
        {
            "checkpoint": FILE,
            "architecture": "lenet5",
            "dataset": "digits",
            "compression": {"layers": ["fc*"], "structure": {"depth": 3}, "target": {"ratio": 5.5}, "gate_bits": 4},
            "search": {"max_trials": 3},
            "image": {"resize": [32, 24]},
            "normalize": {"mean": [0.1], "std": [0.3]},
            "augment": {"crop": 4, "flip": True, "rotate": 10, "stretch": 0.1},
            "exports": ["dense", "dense_pt", "onnx", "pt2"],
        }
    )
    assert JobSettings.model_validate(settings.model_dump(mode="json")) == settings


@pytest.mark.parametrize(
    "wrong",
    [
        {"checkpoint": "../../etc/passwd"},
        {"checkpoint": FILE + "\n"},
        {"unknown": 1},
        {"seed": -1},
        {"seed": 2**32},
        {"name": "a\x1b[31m"},
        {"name": ""},
        {"metadata": {"k": "v" * 513}},
        {"metadata": {f"k{i}": "v" for i in range(17)}},
        {"exports": []},
        {"exports": ["gguf"]},
        {"exports": ["dense", "dense"]},
        {"fit": {"steps": 10**9}},
        {"fit": {"learning_rate": float("nan")}},
        {"fit": {"learning_rate": 0}},
        {"fine_tune": {"epochs": 1001}},
        {"fine_tune": {"learning_rate": float("inf")}},
        {"fine_tune": {"batch_size": 0}},
        {"fine_tune": {"schedule": "linear"}},
        {"fine_tune": {"gate_learning_rate": "fast"}},
        {"fine_tune": {"dense": "half"}},
        {"fine_tune": {"accumulate": 0}},
        {"fine_tune": {"accumulate": 1025}},
        {"fine_tune": {"precision": "float16"}},
        {"fine_tune": {"natural_epochs": -1}},
        {"fine_tune": {"teacher_epochs": 1001}},
        {"fine_tune": {"teacher_epochs": 1, "dense": "freeze"}},
        {"fine_tune": {"epochs": 2, "natural_epochs": 3}},
        {"fine_tune": {"natural_epochs": 1}, "compression": {"target": {"max_accuracy_drop": 1.0}}},
        {"compression": {"layers": []}},
        {"compression": {"layers": [""]}},
        {"compression": {"layers": "fc1"}},
        {"compression": {"structure": {"depth": 10**9}}},
        {"compression": {"structure": {"gate_sites": 1}}},
        {"compression": {"structure": {"activation": "__import__"}}},
        {"compression": {"target": {}}},
        {"compression": {"target": {"parameters": 5, "ratio": 2.0}}},
        {"compression": {"target": {"ratio": 1}}},
        {"compression": {"target": {"max_accuracy_drop": 100.5}}},
        {"compression": {"target": {"max_accuracy_drop": 1.0, "parameters": 5}}},
        {"compression": {"structure": "brick-wall"}},
        {"search": {"max_trials": 65}},
        {"search": {"max_minutes": 0}},
        {"search": {"trials": 3}},
        {"image": {"resize": [32]}},
        {"image": {"resize": [32, 32, 3]}},
        {"image": {"resize": [0, 32]}},
        {"image": {"resize": [32, 1025]}},
        {"image": {"size": [32, 32]}},
        {"augment": {"crop": -1}},
        {"augment": {"crop": 65}},
        {"augment": {"rotate": -1}},
        {"augment": {"rotate": 181}},
        {"augment": {"stretch": 0.6}},
        {"augment": {"stretch": float("nan")}},
        {"augment": {"flip": "sometimes"}},
        {"augment": {"mixup": 1}},
        {"normalize": {"mean": [0.1], "std": [0.0]}},
        {"normalize": {"mean": [0.1], "std": [0.1, 0.2]}},
    ],
    ids=str,
)
def test_settings_out_of_bounds_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        JobSettings.model_validate({"checkpoint": FILE} | wrong)
