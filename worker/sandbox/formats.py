"""The format of an upload by its first bytes, whatever its name says; looked at before a child is started."""

from typing import Literal

from jobs.problems import ProblemError

Format = Literal["zip", "pickle", "tar", "safetensors"]
ZIP_MAGIC = b"PK\x03\x04"
GZIP_MAGIC = b"\x1f\x8b"
PICKLE_MAGIC = b"\x80"
START_BYTES = 512

ACCEPTED = {
    "checkpoint": "a checkpoint as .safetensors, .pt, .pth or .pt2, or a zip or tar of sharded .safetensors and their "
    "index",
    "dataset": "a data set: .npz or .safetensors with train_x, train_y, test_x, test_y, and val_x, val_y if you like; "
    "or a zip or tar of IDX files, of CIFAR-10 or CIFAR-100, or of PNG or JPEG images with a folder a class",
}
OTHER_TAR = (
    "another tar or gzip file: unpack it, or if it is PyTorch's oldest format, load it and save it with torch.save"
)
# What people upload instead: the first bytes, and what to do.
OTHERS = (
    (b"version https://git-lfs", "a Git LFS pointer; fetch the file itself with `git lfs pull`"),
    (b"\x89HDF", "an HDF5 file; export its arrays"),
    (b"<", "an HTML or XML page; the download of the file failed"),
    (b"{", "JSON text"),
    (b"GGUF", "a GGUF file; export the weights as safetensors"),
    (b"\x89PNG", "a single image; put the images into a zip, with a folder a class"),
    (b"\xff\xd8\xff", "a single image; put the images into a zip, with a folder a class"),
)


def format_of(start: bytes, purpose: str, filename: str) -> Format:
    """The format of a file.

    Args:
        start: Its first `START_BYTES` bytes.
        purpose: "checkpoint" or "dataset".
        filename: Its ending is a hint where the content says nothing.

    Raises:
        ProblemError: `unsupported_format`.
    """
    if _has_short_header(start):
        return "safetensors"
    if start.startswith(ZIP_MAGIC):
        return "zip"
    if purpose == "checkpoint" and start.startswith(PICKLE_MAGIC):
        return "pickle"
    if _is_tar(start):
        return "tar"
    if _is_safetensors(start) or filename.lower().endswith(".safetensors"):
        return "safetensors"
    raise ProblemError("unsupported_format", f"expected {ACCEPTED[purpose]}, got {_guess(start, purpose)}")


def _is_tar(start: bytes) -> bool:
    return start.startswith(GZIP_MAGIC) or start[257:262] == b"ustar"


def _has_short_header(start: bytes) -> bool:
    """Whether a JSON object comes after the 8 bytes of a length below 4 GiB.

    Looked at first: such a length may begin like any other format (640 is 80 02, the start of a pickle), while no
    pickle, zip or gzip file has zeros in these places and a brace behind them.
    """
    return start[4:9] == b"\0\0\0\0{"


def _is_safetensors(start: bytes) -> bool:
    """Whether a JSON object comes after the 8 bytes of the header's length."""
    return start[8:9] == b"{"


def _guess(start: bytes, purpose: str) -> str:
    """What a file of no accepted format seems to be."""
    if purpose == "dataset" and start.startswith(PICKLE_MAGIC):
        return "a pickle, which is never run here"
    for magic, description in OTHERS:
        if start.lstrip().lower().startswith(magic.lower()):
            return description
    return f"a file that starts with the bytes {start[:8].hex(' ')}"
