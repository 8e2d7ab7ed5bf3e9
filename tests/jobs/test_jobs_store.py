"""The store: objects appear whole or not at all."""

import asyncio
import hashlib
import random
import stat
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from jobs.store import PART_BYTES, Object, Store, open_store


async def chunks(*content: bytes) -> AsyncIterator[bytes]:
    for chunk in content:
        yield chunk


def put(store: Store, key: str, *content: bytes) -> None:
    asyncio.run(store.put_stream(key, chunks(*content)))


def read(store: Store, key: str, start: int, end: int) -> bytes:
    async def collect() -> bytes:
        return b"".join([chunk async for chunk in store.read(key, start, end)])

    return asyncio.run(collect())


@pytest.mark.parametrize("size", [0, 1, PART_BYTES - 1, PART_BYTES, 2 * PART_BYTES + 7])
def test_a_stream_is_stored_with_its_size_and_digest(size: int, store: Store, tmp_path: Path) -> None:
    content = random.Random(size).randbytes(size)
    pieces = [content[i : i + 100_000] for i in range(0, size, 100_000)]
    stored = asyncio.run(store.put_stream("files/a/upload", chunks(*pieces)))
    assert (stored.bytes, stored.sha256) == (size, hashlib.sha256(content).hexdigest())
    assert store.get_to_file("files/a/upload", tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == content
    assert store.size("files/a/upload") == size


def test_ranges_are_read(store: Store) -> None:
    content = random.Random(0).randbytes(3_000_000)
    put(store, "k", content)
    for start, end in [(0, 3_000_000), (0, 1), (1_234_567, 2_345_678), (2_999_999, 3_000_000), (5, 5)]:
        assert read(store, "k", start, end) == content[start:end]


def test_a_stream_that_raises_leaves_nothing(store: Store, folder: Path) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield bytes(3 * PART_BYTES)
        raise ValueError("the client sent nonsense")

    with pytest.raises(ValueError, match="nonsense"):
        asyncio.run(store.put_stream("files/a/upload", broken()))
    assert [path for path in folder.rglob("*") if path.is_file()] == []


def test_an_upload_that_is_cancelled_leaves_nothing(store: Store, folder: Path) -> None:
    async def cancel() -> None:
        begun = asyncio.Event()

        async def endless() -> AsyncIterator[bytes]:
            yield bytes(3 * PART_BYTES)
            begun.set()
            await asyncio.sleep(3600)

        task = asyncio.create_task(store.put_stream("files/a/upload", endless()))
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        # The store tidies up in a thread of its own.
        for _ in range(200):
            if not [path for path in folder.rglob("*") if path.is_file()]:
                return
            await asyncio.sleep(0.05)

    asyncio.run(cancel())
    assert [path for path in folder.rglob("*") if path.is_file()] == []


def test_a_local_file_is_stored_and_replaced(store: Store, tmp_path: Path) -> None:
    source = tmp_path / "source"
    for content in (b"first", b"second"):
        source.write_bytes(content)
        store.put_file("jobs/a/1/report.json", source)
        assert read(store, "jobs/a/1/report.json", 0, 100) == content


def test_everything_under_a_prefix_is_deleted_and_nothing_beside_it(store: Store, folder: Path) -> None:
    for key in ("jobs/a/1/x", "jobs/a/2/y", "jobs/ab/1/x"):
        put(store, key, b"content")
    store.delete("jobs/a")
    store.delete("jobs/a")
    assert [str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()] == ["jobs/ab/1/x"]


def test_what_is_not_there_is_missing(store: Store, tmp_path: Path) -> None:
    assert store.get_to_file("none", tmp_path / "copy", missing_ok=True) is False
    assert not (tmp_path / "copy").exists()
    with pytest.raises(FileNotFoundError, match="none"):
        store.get_to_file("none", tmp_path / "copy")
    with pytest.raises(FileNotFoundError, match="none"):
        store.size("none")
    with pytest.raises(FileNotFoundError, match="none"):
        read(store, "none", 0, 1)


def test_what_somebody_else_has_removed_meanwhile_is_no_fault(
    store: Store, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in "abc":
        put(store, f"jobs/j/{name}", b"content")
    pages = store.pages

    def outrun(prefix: str) -> Iterator[list[Object]]:
        for page in pages(prefix):
            (folder / "jobs" / "j" / "a").unlink()
            yield page

    monkeypatch.setattr(store, "pages", outrun)
    store.delete("jobs/j")
    assert not (folder / "jobs" / "j").exists()


def test_a_folder_that_a_url_would_cut_short_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="as %3F and %23"):
        open_store(f"file://{tmp_path}/a#b")
    assert list(tmp_path.iterdir()) == []


def test_a_new_folder_is_for_this_user_alone(store: Store, folder: Path) -> None:
    assert store
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
