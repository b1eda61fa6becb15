"""Files that are either whole or absent: write beside, flush to disk, rename, flush the folder."""

import contextlib
import ctypes
import errno
import hashlib
import json
import os
import shutil
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from lavit_core.errors import InputError


def canonical_json(value: Any) -> str:
    """Return JSON with sorted keys and no spaces, so that equal content is equal text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def sync_folder(folder: Path) -> None:
    """Flush a folder's entries to disk, so that a rename survives a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


READ_BYTES = 1 << 20
"""Bytes of a file that are read at a time."""

_DISK_ERRORS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS})
"""Error numbers of a full or read-only disk, whatever the operation was."""


@contextlib.contextmanager
def explain_write_errors(path: Path, *, only: frozenset[int] = frozenset()) -> Iterator[None]:
    """Turn an OSError of the block (or one with an errno in `only`) into one line that names `path`.

    Raises InputError.
    """
    try:
        yield
    except OSError as error:
        if only and error.errno not in only:
            raise
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        remedy = "free some space there" if full else "expected a place that can be written to"
        raise InputError(f"{path}: can't be written ({error.strerror or error}); {remedy}") from error


def writable_file(path: Path) -> Path:
    """Return the file that writing `path` creates or replaces: `path` itself, or the file that it links to.

    Raises InputError if `path` is a folder, a device, a pipe or a socket: replacing those would take them away.
    """
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return path.resolve() if path.is_symlink() else path
    except OSError as error:
        raise InputError(f"{path}: can't be written ({error.strerror or error})") from None
    if not stat.S_ISREG(mode):
        raise InputError(f"{path}: {_kind(mode)}, expected a file name")
    return path.resolve() if path.is_symlink() else path


def _kind(mode: int) -> str:
    kinds = {stat.S_IFREG: "a file", stat.S_IFDIR: "a folder", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket"}
    return kinds.get(stat.S_IFMT(mode), "a device")


@contextlib.contextmanager
def atomic_file(path: Path, *, temporary: Path | None = None) -> Iterator[Path]:
    """Give a temporary file name whose file takes `path`'s place when the block ends well, flushed to disk.

    On any failure the old file stays as it was. Folders above `path` are made, and a link is written through. Processes
    that may write one `path` at the same time give a `temporary` each, on the same disk.
    Raises InputError if `path` is not a regular file, or can't be written.
    """
    target = writable_file(path)
    with explain_write_errors(path):
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = temporary or target.with_name(f".{target.name}.tmp")
        try:
            yield temporary
            with open(temporary, "rb") as handle:
                os.fsync(handle.fileno())
            os.replace(temporary, target)
            sync_folder(target.parent)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise


def write_chunks(path: Path, chunks: Iterable[bytes | memoryview], *, temporary: Path | None = None) -> None:
    """Write a file atomically with the mode the umask gives. Raises InputError as `atomic_file` does."""
    with atomic_file(path, temporary=temporary) as scratch, open(scratch, "wb") as handle:
        for chunk in chunks:
            handle.write(chunk)


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file's content atomically."""
    write_chunks(path, (content,))


def write_text(path: Path, content: str) -> None:
    """Write UTF-8 text atomically."""
    write_bytes(path, content.encode())


def write_json(path: Path, value: Any) -> None:
    """Write indented JSON atomically, keys in the order given."""
    write_text(path, json_text(value))


def json_text(value: Any) -> str:
    """Return indented JSON as `write_json` writes it."""
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


def check_out_file(out: Path) -> None:
    """Refuse a name that no file can be written to before any work is done. Raises InputError."""
    try:
        writable_file(out)
    except InputError as error:
        raise InputError(f"--out {error}") from None
    folder = next(parent for parent in out.absolute().parents if parent.exists())
    if not folder.is_dir():
        raise InputError(f"--out {out}: {folder} is a file, expected a folder")
    if not os.access(folder, os.W_OK):
        raise InputError(f"--out {out}: {folder} can't be written to")


def read_json(path: Path) -> Any:
    """Read a JSON file; a byte order mark is passed over. Raises InputError if it is missing or not JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise InputError(f"{path}: file not found") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not valid JSON ({error})") from None
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}") from None


def file_sha256(path: Path) -> str:
    """Return the hexadecimal SHA-256 of a file's content. Raises InputError if it can't be read."""
    try:
        with open(path, "rb") as handle:
            return hashlib.file_digest(handle, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"{path}: can't be read ({error.strerror or error})") from None


def update_with_file(digest: "hashlib._Hash", path: Path) -> None:
    """Let a file's content enter a digest. Raises OSError."""
    with open(path, "rb") as handle:
        while content := handle.read(READ_BYTES):
            digest.update(content)


@contextlib.contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Give a scratch folder that takes `path`'s place only when the block ends well; a failure leaves `path` alone.

    A link to a folder is written through. Raises InputError if `path` is not a folder, or can't be written.
    """
    if path.exists() and not path.is_dir():
        raise InputError(f"{path}: {_kind(path.stat().st_mode)}, expected a folder")
    path = path.resolve() if path.is_symlink() else path
    old, scratch = path.with_name(f".{path.name}.old"), path.with_name(f".{path.name}.tmp")
    with explain_write_errors(path):
        if old.exists() and not path.exists():
            os.rename(old, path)  # a kill between the two renames of _take_place
        for rest in (scratch, old):
            shutil.rmtree(rest, ignore_errors=True)
        scratch.mkdir(parents=True)
    try:
        with explain_write_errors(path, only=_DISK_ERRORS):
            yield scratch
        with explain_write_errors(path):
            _sync_tree(scratch)
            _take_place(scratch, path, old)
            sync_folder(path.parent)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
        if path.exists():
            shutil.rmtree(old, ignore_errors=True)


def _take_place(scratch: Path, path: Path, old: Path) -> None:
    if not path.exists():
        os.rename(scratch, path)
    elif not _exchange(scratch, path):
        os.rename(path, old)
        try:
            os.rename(scratch, path)
        except BaseException:
            os.rename(old, path)
            raise


def _exchange(one: Path, other: Path) -> bool:
    """Swap two folders in one step, so that a reader always finds one; False where that can't be (NFS)."""
    try:
        swap = ctypes.CDLL(None, use_errno=True).renameat2
    except AttributeError:
        return False
    at_working_directory, exchange = -100, 2  # AT_FDCWD and RENAME_EXCHANGE of linux/fs.h
    return swap(at_working_directory, os.fsencode(one), at_working_directory, os.fsencode(other), exchange) == 0


def _sync_tree(folder: Path) -> None:
    mode = 0o666 & ~current_umask()
    for entry in folder.rglob("*"):
        if entry.is_dir():
            sync_folder(entry)
        elif entry.is_file():
            # Libraries write 0600 files (safetensors); shared folders need what the umask gives.
            os.chmod(entry, mode)
            with open(entry, "rb") as handle:
                os.fsync(handle.fileno())
    sync_folder(folder)


def current_umask() -> int:
    """Return the process's umask (reading it means setting it twice)."""
    mask = os.umask(0o022)
    os.umask(mask)
    return mask


def link_or_copy(source: Path, target: Path) -> None:
    """Copy a folder tree, whole or not at all, with the modes that the umask gives.

    Weights are hard links where they can be: they are large, and nobody edits them. All other files are copies: else
    who edits one model would edit another.
    """
    mode = 0o666 & ~current_umask()

    def place(src: str, dst: str) -> str:
        with contextlib.suppress(OSError):
            # A link has the mode of its file, which another umask may have given.
            if src.endswith(".safetensors") and stat.S_IMODE(os.stat(src).st_mode) == mode:
                os.link(src, dst)
                return dst
        shutil.copyfile(src, dst)
        with open(dst, "rb") as handle:
            os.fsync(handle.fileno())
        return dst

    scratch = target.with_name(f".{target.name}.tmp")
    shutil.rmtree(scratch, ignore_errors=True)
    with explain_write_errors(target, only=_DISK_ERRORS):
        shutil.copytree(source, scratch, copy_function=place)
        for folder in (scratch, *(entry for entry in scratch.rglob("*") if entry.is_dir())):
            folder.chmod(0o777 & ~current_umask())  # copytree gives that of the source
            sync_folder(folder)
        os.rename(scratch, target)
        sync_folder(target.parent)
