"""Print the requirements of pyproject.toml, one a line, without those named: `requirements.py --without torch numpy`.

The API process never touches tensors, so its image leaves out what only library and worker need. The versions stay
written in one place.
"""

import argparse
import re
import sys
import tomllib
from pathlib import Path

PYPROJECT = Path(__file__).parent.parent / "pyproject.toml"


def requirements(pyproject: Path, without: set[str], extras: set[str]) -> list[str]:
    """The requirements of a project and of some of its extras.

    Raises:
        KeyError: The project does not require something that is to be left out, or has no such extra.
    """
    project = tomllib.loads(pyproject.read_text())["project"]
    listed = project["dependencies"] + [line for extra in extras for line in project["optional-dependencies"][extra]]
    by_name = {re.split(r"[\[=<>~!; ]", line, maxsplit=1)[0].lower(): line for line in listed}
    for name in without:
        del by_name[name.lower()]
    return list(by_name.values())


def main() -> None:
    """Parse the command line and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--without", nargs="*", default=[])
    parser.add_argument("--extra", nargs="*", default=[])
    options = parser.parse_args()
    sys.stdout.write("\n".join(requirements(PYPROJECT, set(options.without), set(options.extra))) + "\n")


if __name__ == "__main__":
    main()
