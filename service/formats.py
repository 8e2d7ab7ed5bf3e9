"""A look at the first bytes of an upload: what is certainly nothing for the sandbox is refused at once."""

from jobs.problems import ProblemError

# As far as any check below looks.
LOOKED_AT_BYTES = 512

HINTS = (
    (b"<", "an HTML or XML page; the download of the file failed"),
    (b"version https://git-lfs", "a Git LFS pointer; fetch the file itself with `git lfs pull`"),
    (b"\x89HDF", "an HDF5 file"),
    (b"GGUF", "a GGUF file"),
    (b"\x93NUMPY", "a single NumPy array; save it as .npz"),
    (b"{", "JSON text"),
    (b"%PDF", "a PDF document"),
    (b"\x89PNG", "a single image; put the images into a zip, with a folder a class"),
    (b"\xff\xd8\xff", "a single image; put the images into a zip, with a folder a class"),
)


def check_start(start: bytes) -> None:
    """Refuse an upload by its first bytes.

    Args:
        start: The first `LOOKED_AT_BYTES` bytes, or all if there are fewer.

    Raises:
        ProblemError: empty_file or unsupported_format.
    """
    if not start:
        raise ProblemError("empty_file", "expected a file with bytes in it, got 0 bytes")
    if not _may_be_read(start):
        text = start.removeprefix(b"\xef\xbb\xbf").lstrip()
        looks = next((hint for magic, hint in HINTS if text.startswith(magic)), "none of these")
        raise ProblemError(
            "unsupported_format",
            "expected a checkpoint (safetensors, alone or as shards in a zip or tar, or a state_dict as .pt) or a data "
            "set (npz, safetensors, or a zip or tar of IDX files, of CIFAR-10 or CIFAR-100, or of PNG or JPEG images "
            f"with a folder a class); the first bytes are those of {looks}",
        )


def _may_be_read(start: bytes) -> bool:
    return (
        start[8:9] == b"{"  # safetensors: a length, then JSON
        or start.startswith((b"PK\x03\x04", b"PK\x05\x06", b"\x1f\x8b", b"\x80"))  # zip, gzip, pickle
        or start[257:262] == b"ustar"
    )
