"""The command `adtn` as a user runs it: what it prints, where, and how it exits."""

import contextlib
import hashlib
import json
import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from scripted_server import Answer, Request, ScriptedServer, a_file, a_job, json_answer, problem_answer

from adtn_client.commands.report_view import accuracy
from jobs.schemas.report import Accuracy

ADTN = Path(sys.executable).with_name("adtn")
FILE_ID = f"file_{'a' * 32}"


def environment(server: ScriptedServer | None) -> dict[str, str]:
    return {**os.environ, "ADTN_URL": server.url if server else "http://127.0.0.1:1", "COLUMNS": "200"}


def adtn(*arguments: str | Path, server: ScriptedServer | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run([ADTN, *arguments], env=environment(server), capture_output=True, text=True, timeout=60)


def a_report() -> dict[str, Any]:
    structure = {"sites": 11, "depth": 2, "gate_sites": 2, "activation": "relu"}
    layer = {"name": "fc1", "kind": "linear", "shape": [32, 64], "original": 2048, "compressed": 252}
    return {
        "accuracy": {
            "metric": "top1",
            "baseline": 0.9865,
            "after_fit": 0.1009,
            "final": 0.9817,
            "samples": 10000,
            "change": {"points": -0.48, "interval": [-0.72, -0.24], "lost": 98, "won": 50},
        },
        "parameters": {
            **{"original": 2410, "compressed": 614, "ratio": 3.93},
            "encoded": {"original": 2048, "compressed": 252, "ratio": 8.13},
            "layers": [{**layer, "relative_error": 0.94, "structure": structure}],
        },
        "bytes": {"checkpoint": 9900, "artifacts": {"model.adtn.safetensors": 3100}},
        "checkpoint": {"format": "pytorch", "key_prefix": "", "notes": ["weights taken from 'state_dict'"]},
        "dataset": {
            "format": "images",
            "samples": {"train": 9, "test": 4},
            "notes": ["2 images have an alpha channel"],
        },
        "seconds": {"fit": 3.1, "fine_tune": 40.2},
        **{"settings": {}, "seed": 0, "fingerprint": "sha256:0", "environment": {}, "latency_ms": None},
        "accuracy_unverified": False,
        "verified": {"fresh_process": True, "accuracy": 0.9817},
    }


class CompressingServer:
    """Answers as the service does for one job from upload to download, and keeps what was asked."""

    artifact = b"the compressed model"

    def __init__(self, statuses: list[str]) -> None:
        self.statuses = statuses
        self.settings: dict[str, Any] = {}
        self.cancelled = False

    def __call__(self, request: Request) -> Answer:
        path = request.path.partition("?")[0]
        if (request.method, path) == ("POST", "/v1/files"):
            return json_answer(a_file(id=FILE_ID, sha256=hashlib.sha256(request.body).hexdigest()), 201)
        if (request.method, path) == ("POST", "/v1/jobs"):
            self.settings = json.loads(request.body)
            return json_answer(a_job(), 202)
        if path == "/v1/jobs/job_1/cancel":
            self.cancelled = True
            return json_answer(a_job(status="cancelling"), 202)
        if path == "/v1/jobs/job_1/report":
            return json_answer(a_report())
        if path == "/v1/jobs/job_1/artifacts/model.adtn.safetensors":
            return Answer(200, self.artifact)
        return json_answer(self.job())

    def job(self) -> dict[str, Any]:
        status = self.statuses.pop(0) if len(self.statuses) > 1 else self.statuses[0]
        progress = {"fraction": 0.5, "stage": "fit", "stage_fraction": 0.5, "eta_seconds": None, "message": "fc1"}
        if status != "succeeded":
            return a_job(status=status, stage="fit", progress=progress)
        sha256 = hashlib.sha256(self.artifact).hexdigest()
        artifact = {"name": "model.adtn.safetensors", "kind": "adtn", "bytes": len(self.artifact), "sha256": sha256}
        end = {"finished_at": "2026-01-31T12:00:01Z", "report": a_report(), "artifacts": [{**artifact, "url": "/x"}]}
        return a_job(status=status, progress={**progress, "fraction": 1.0, "message": None}, **end)


def test_compress_goes_all_the_way(server: ScriptedServer, tmp_path: Path) -> None:
    service = CompressingServer(["queued", "running", "succeeded"])
    server.script.append(service)
    (tmp_path / "m.pt").write_bytes(b"weights")
    options = [
        "--arch",
        "lenet5",
        "--data",
        "digits",
        "--layers",
        "conv2, fc1 + fc2, f*",
        "--target",
        "parameters=1250",
    ]
    more = [
        "--depth",
        "2",
        "--gate-bits",
        "4",
        "--gate-lr",
        "auto",
        "--epochs",
        "3",
        "--natural-epochs",
        "2",
        "--teacher-epochs",
        "5",
        "--dense",
        "train",
        "--accumulate",
        "4",
        "--precision",
        "bfloat16",
        "--schedule",
        "one_cycle",
        "--no-distill",
        "--resize",
        "32x48",
        "--mean",
        "0.49, 0.48",
        "--std",
        "0.2,1",
        "--crop",
        "4",
        "--flip",
        "--rotate",
        "7.5",
        "--stretch",
        "0.1",
        "--exports",
        "adtn",
        "--out",
        str(tmp_path / "out"),
    ]
    done = adtn("compress", tmp_path / "m.pt", *options, *more, server=server)
    assert done.returncode == 0, done.stderr
    assert service.settings == {
        "checkpoint": FILE_ID,
        "architecture": "lenet5",
        "dataset": "digits",
        "compression": {
            "layers": ["conv2", ["fc1", "fc2"], "f*"],
            "structure": {"depth": 2},
            "target": {"parameters": 1250},
            "gate_bits": 4,
        },
        "fine_tune": {
            "epochs": 3,
            "natural_epochs": 2,
            "teacher_epochs": 5,
            "gate_learning_rate": "auto",
            "schedule": "one_cycle",
            "accumulate": 4,
            "dense": "train",
            "precision": "bfloat16",
            "distill": False,
        },
        "image": {"resize": [32, 48]},
        "normalize": {"mean": [0.49, 0.48], "std": [0.2, 1]},
        "augment": {"crop": 4, "flip": True, "rotate": 7.5, "stretch": 0.1},
        "exports": ["adtn"],
    }
    assert (tmp_path / "out" / "model.adtn.safetensors").read_bytes() == service.artifact
    accuracies = "98.65% before, 10.09% after the fit, 98.17% at the end"
    change = "-0.48 points (-0.72 to -0.24 at 95 %): 98 answers lost, 50 won"
    for shown in (
        accuracies,
        change,
        "2,048 -> 252 parameters, ratio 8.1",
        "weights taken from 'state_dict'",
        "alpha channel",
    ):
        assert shown in done.stdout
    for said in (f"uploaded m.pt as {FILE_ID}", "created job_1", "fit: fc1"):
        assert said in done.stderr


def test_what_an_original_became_that_was_trained_further_is_shown() -> None:
    found = Accuracy.model_validate({**a_report()["accuracy"], "teacher": 0.9912})
    assert accuracy(found).startswith("98.65% before, 99.12% trained further, 10.09% after the fit, 98.17% at the end")


def test_on_a_terminal_progress_is_a_bar(server: ScriptedServer, tmp_path: Path) -> None:
    server.script.append(CompressingServer(["queued", "running", "running", "succeeded"]))
    (tmp_path / "m.pt").write_bytes(b"weights")
    ours, terminal = pty.openpty()
    command = [ADTN, "compress", tmp_path / "m.pt", "--exports", "adtn", "--out", tmp_path / "out"]
    with subprocess.Popen(
        command, env=environment(server) | {"TERM": "xterm"}, stdout=terminal, stderr=terminal
    ) as run:
        os.close(terminal)
        shown = b""
        with contextlib.suppress(OSError):  # what Linux gives once the other side is closed
            while found := os.read(ours, 4096):
                shown += found
    os.close(ours)
    assert run.returncode == 0, shown.decode()
    text = shown.decode()
    assert "━" in text  # of the bar
    assert "fc1" in text  # what is being done
    assert "100%" in text
    assert "98.17% at the end" in text


def test_compress_sends_a_config_as_it_is(server: ScriptedServer, tmp_path: Path) -> None:
    service = CompressingServer(["succeeded"])
    server.script.append(service)
    config = {"pad_token_id": None, "n_heads": 4}
    (tmp_path / "config.json").write_text(json.dumps(config))
    arch = ["--arch", "transformers/GPT2ForSequenceClassification", "--arch-config", tmp_path / "config.json"]
    done = adtn("compress", FILE_ID, *arch, "--out", tmp_path / "out", server=server)
    assert done.returncode == 0, done.stderr
    assert service.settings["architecture_config"] == config


@pytest.mark.parametrize(("text", "says"), [("[]", "expected a JSON object in"), ("{", "cannot be read as JSON")])
def test_a_config_is_a_json_object(server: ScriptedServer, tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "config.json").write_text(text)
    done = adtn("compress", FILE_ID, "--arch-config", tmp_path / "config.json", server=server)
    assert done.returncode == 1
    assert says in done.stderr
    assert server.requests == []


def test_compress_of_a_failing_job_exits_with_4(server: ScriptedServer, tmp_path: Path) -> None:
    problem = {"type": "t", "title": "t", "status": 422, "code": "non_finite_values", "detail": "fc1 holds NaN"}
    failed = a_job(status="failed", error=problem, finished_at="2026-01-31T12:00:01Z")
    server.script += [json_answer(a_job(), 202), json_answer(failed)]
    done = adtn("compress", FILE_ID, "--out", tmp_path, server=server)
    assert (done.returncode, done.stdout) == (4, "")
    assert done.stderr.splitlines()[-1] == "adtn: job job_1 failed: fc1 holds NaN (non_finite_values)"


def test_detached_compress_prints_the_job_and_leaves_it(server: ScriptedServer, tmp_path: Path) -> None:
    service = CompressingServer(["running"])
    server.script.append(service)
    done = adtn("compress", FILE_ID, "--detach", "--out", tmp_path / "out", server=server)
    assert (done.returncode, done.stdout) == (0, "job_1\n")
    assert not service.cancelled
    assert not (tmp_path / "out").exists()


def test_interrupted_compress_cancels_its_job(server: ScriptedServer, tmp_path: Path) -> None:
    service = CompressingServer(["running"])
    server.script.append(service)
    # What runs the tests in the background may ignore the signal, and its children would too.
    command = ["env", "--default-signal=INT", ADTN, "compress", FILE_ID, "--out", tmp_path]
    with subprocess.Popen(command, env=environment(server), stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if "fit: fc1" in line:
                break
        process.send_signal(signal.SIGINT)
        assert "cancelling job_1" in process.stderr.read()
    assert process.returncode == 130
    assert service.cancelled


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (["nothing.pt"], 1, "the checkpoint: nothing.pt is no file here"),
        ([FILE_ID, "--data", "data/none.npz"], 1, "--data: data/none.npz is no file here"),
        ([FILE_ID, "--data", "."], 1, "--data: . is a folder; pack it as a zip or tar first"),
        ([FILE_ID, "--target", "size=3"], 2, "--target: expected one of parameters, ratio"),
        ([FILE_ID, "--target", "small"], 2, "--target: expected a number, got 'small'"),
        ([FILE_ID, "--resize", "32"], 2, "--resize: expected HEIGHTxWIDTH in pixels, such as 32x32, got '32'"),
        ([FILE_ID, "--resize", "3²x32"], 2, "--resize: expected HEIGHTxWIDTH"),
        ([FILE_ID, "--mean", "0.5"], 2, "--mean, --std: expected both or neither"),
        ([FILE_ID, "--mean", "0.5", "--std", "wide"], 2, "--std: expected a number, got 'wide'"),
        ([FILE_ID, "--arch-config", "none.json"], 1, "--arch-config: none.json cannot be read as JSON"),
        ([FILE_ID, "--depth", "deep"], 2, "--depth: expected a number, got 'deep'"),
    ],
)
def test_compress_refuses_before_it_sends_anything(
    server: ScriptedServer, tmp_path: Path, arguments: list[str], code: int, sentence: str
) -> None:
    done = adtn("compress", *arguments, "--out", tmp_path / "out", server=server)
    assert done.returncode == code
    assert sentence in done.stderr
    assert server.requests == []


def test_refusal_of_the_server_is_one_sentence(server: ScriptedServer) -> None:
    server.script.append(problem_answer(404, "not_found", "there is no job 'job_9'"))
    done = adtn("status", "job_9", server=server)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "adtn: there is no job 'job_9' (not_found)\n")


def test_missing_server_exits_with_3() -> None:
    done = adtn("cancel", "job_1")
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr.startswith("adtn: no server can be reached at http://127.0.0.1:1")
    assert len(done.stderr.splitlines()) == 1


def test_wrong_command_line_exits_with_2() -> None:
    assert adtn("worker", "--queue", "nothing").returncode == 2
    done = adtn("compress", FILE_ID, "--dense", "half")
    assert done.returncode == 2
    assert "'half' is not one of 'train', 'freeze'" in done.stderr


def test_status_shows_recent_jobs_and_json_for_programs(server: ScriptedServer) -> None:
    server.script += [json_answer({"object": "list", "data": [a_job(), a_job(id="job_0")], "has_more": False})]
    assert [line.split()[0] for line in adtn("status", server=server).stdout.splitlines()] == ["job", "job_1", "job_0"]
    server.script[:] = [json_answer(a_job())]
    assert json.loads(adtn("status", "job_1", "--json", server=server).stdout)["status"] == "queued"


def test_names_from_the_server_cannot_steer_the_terminal(server: ScriptedServer) -> None:
    progress = {**a_job()["progress"], "message": "\x1b[2Jgone [bold]x[/bold]\n"}
    server.script.append(json_answer(a_job(progress=progress)))
    shown = adtn("status", "job_1", server=server).stdout
    assert "\x1b" not in shown
    assert r"\x1b[2Jgone [bold]x[/bold]" in shown


def test_reader_that_has_seen_enough_ends_it_quietly(server: ScriptedServer) -> None:
    event = {"object": "event", "created_at": "2026-01-31T12:00:00Z", "type": "job.progress", "data": {"x": "x" * 1000}}
    events = [{**event, "id": f"evt_{number}", "sequence": number} for number in range(200)]
    server.script.append(json_answer({"object": "list", "data": events, "has_more": False}))
    command = [ADTN, "events", "job_1"]
    with subprocess.Popen(
        command, env=environment(server), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert "job.progress" in process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == ""


def test_report_is_a_table_or_json(server: ScriptedServer) -> None:
    server.script.append(json_answer(a_report()))
    assert "verified                 reproduced in a fresh process" in adtn("report", "job_1", server=server).stdout
    assert json.loads(adtn("report", "job_1", "--json", server=server).stdout) == a_report()


def test_report_shows_bits_and_bytes_of_the_gates(server: ScriptedServer) -> None:
    report = a_report()
    report["parameters"]["layers"][0] |= {"bits": 4, "bytes": 131}
    report["bytes"]["encoded"] = {"original": 8192, "compressed": 131, "ratio": 62.53}
    server.script.append(json_answer(report))
    shown = adtn("report", "job_1", server=server).stdout
    assert "encoded bytes            8.0 KiB -> 131 B, ratio 62.5" in shown
    row = next(line.split() for line in shown.splitlines() if line.startswith("fc1"))
    assert row[5:10] == ["2,048", "252", "8.1", "4", "131"]


def test_report_names_what_stayed_dense_and_how_the_size_was_found(server: ScriptedServer) -> None:
    report = a_report()
    few = "it has fewer than 2000 entries, which would cost accuracy and save little"
    reasons = {"conv1": few, "fc2": few, "steps": "it has 3 entries, fewer than 64"}
    report["parameters"]["skipped"] = [{"name": name, "reason": reason} for name, reason in reasons.items()]
    trials = [(900, 0.97, False), (614, 0.98, True), (700, 0.99, True)]
    report["search"] = {
        **{"max_accuracy_drop": 1.0, "baseline_heldout_accuracy": 0.985, "heldout_samples": 12_000},
        "trials": [
            {
                **{"parameters": numbers, "ratio": 2.0, "encoded_parameters": 1, "seconds": 1.0, "drop": 0.5},
                **{"heldout_accuracy": accuracy, "kept": kept, "loss_rose": False, "fine_tuned": True},
            }
            for numbers, accuracy, kept in trials
        ],
    }
    server.script.append(json_answer(report))
    shown = adtn("report", "job_1", server=server).stdout
    assert f"left dense               conv1, fc2: {few}\n" in shown
    assert f"left dense               steps: {reasons['steps']}\n" in shown
    assert "search                   3 trials; the smallest that keeps the accuracy has 98.00% of 12,000" in shown


def test_report_without_data_says_so(server: ScriptedServer) -> None:
    report = {**a_report(), "accuracy": None, "accuracy_unverified": True, "verified": {"fresh_process": True}}
    server.script.append(json_answer(report))
    assert "not measured: there were no data" in adtn("report", "job_1", server=server).stdout


def test_download_of_an_unfinished_job_says_so(server: ScriptedServer, tmp_path: Path) -> None:
    server.script.append(json_answer(a_job(status="running")))
    done = adtn("download", "job_1", "--out", tmp_path, server=server)
    assert done.returncode == 1
    assert "job_1 is running; its artifacts are there once it has succeeded" in done.stderr


def test_download_fetches_the_artifacts_of_a_job(server: ScriptedServer, tmp_path: Path) -> None:
    service = CompressingServer(["succeeded"])
    server.script.append(service)
    done = adtn("download", "job_1", "--out", tmp_path / "out", server=server)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out" / "model.adtn.safetensors").read_bytes() == service.artifact


def test_keys_are_made_listed_and_revoked(tmp_path: Path) -> None:
    made = adtn("keys", "create", "--name", "laptop", "--data-dir", tmp_path)
    key, key_id = made.stdout.strip(), made.stderr.split()[0]
    assert key.startswith("adtn_")
    listed = adtn("keys", "list", "--data-dir", tmp_path).stdout
    assert key_id in listed
    assert key not in listed
    assert adtn("keys", "revoke", key_id, "--data-dir", tmp_path).returncode == 0
    assert time.strftime("%Y-", time.gmtime()) in adtn("keys", "list", "--data-dir", tmp_path).stdout.split("laptop")[1]
    assert adtn("keys", "revoke", "key_0", "--data-dir", tmp_path).returncode == 1


def test_keys_of_a_data_directory_are_those_of_the_service_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ADTN_DATABASE_URL", f"sqlite:///{tmp_path}/other.db")
    monkeypatch.chdir(tmp_path)
    assert adtn("keys", "create", "--data-dir", "data").returncode == 0
    assert [path.name for path in sorted(tmp_path.rglob("*.db"))] == ["adtn.db"]
    assert adtn("keys", "create").returncode == 0
    assert [path.name for path in sorted(tmp_path.rglob("*.db"))] == ["adtn.db", "other.db"]
