"""Puts generated text between the markers of a Markdown file, so that no figure there is typed by hand."""

from pathlib import Path

DOCS = Path(__file__).parent.parent / "docs"
END = "<!-- end of results -->"


def write_between(path: Path, name: str, text: str) -> None:
    """Replace what stands between `<!-- results: NAME -->` and the next end of results.

    Args:
        path: The Markdown file.
        name: Of the result.
        text: What is to stand there.
    """
    begin = f"<!-- results: {name} -->"
    before, rest = path.read_text().split(begin)
    _, after = rest.split(END, 1)
    path.write_text(f"{before}{begin}\n{text}\n{END}{after}")
