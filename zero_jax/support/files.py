"""Atomic writes, and trees of arrays and plain values as bytes."""

import hashlib
import io
import json
import os
import secrets
import stat
import sys
from pathlib import Path
from typing import Any

import numpy as np


def write_atomically(path: Path, content: str | bytes) -> None:
    """Writes a file under a temporary name, then renames it, so that no reader or crash ever sees half of it.

    Symbolic links are followed and kept. An existing file keeps its permissions; other hard links to it keep the old
    content. Character devices and streams of this process (/dev/stdout, /dev/fd/3) are written to directly.

    Raises:
      OSError: the file cannot be written; the message names it.
    """
    data = content.encode() if isinstance(content, str) else content
    try:
        target = _target(Path(path))
        if isinstance(target, Path):
            _replace(target, data)
        else:
            sys.stdout.flush()  # earlier output comes first
            with open(target, "wb", closefd=isinstance(target, str)) as stream:
                stream.write(data)
    except OSError as error:
        if error.errno is None:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error


def check_writable(path: str | Path) -> None:
    """Refuses a path that `write_atomically` could not write, before any work is done.

    Raises:
      ValueError: the path is a folder, a FIFO, a socket or a disk; its folder is missing; or permission is missing.
    """
    try:
        _target(Path(path))
    except OSError as error:
        raise ValueError(str(error) if error.errno is None else f"cannot write {path}: {error.strerror}") from None


def _target(path: Path) -> Path | int | str:
    """The target of a path: a file to create or replace, a descriptor, or the name of a character device."""
    real = path
    for _ in range(_MOST_LINKS):
        descriptor = _own_descriptor(real)
        if descriptor is not None:
            return descriptor
        if not real.is_symlink():
            break
        real = real.parent / real.readlink()
    try:
        mode = os.stat(real).st_mode
    except FileNotFoundError:
        if not real.parent.is_dir():
            raise OSError(f"cannot write {path}: folder {real.parent} does not exist") from None
        mode = 0
    if stat.S_ISCHR(mode):
        _check_access(path, real)
        return str(real)
    if mode and not stat.S_ISREG(mode):
        kind = next((name for holds, name in _KINDS if holds(mode)), "not a file")
        raise OSError(f"cannot write {path}: it is {kind}")
    if mode:
        _check_access(path, real)
    _check_access(path, real.parent)
    return real


_MOST_LINKS = 40
"""The longest chain of links that is followed, as on Linux."""

_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a FIFO"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISBLK, "a block device"),
)


def _own_descriptor(path: Path) -> int | None:
    """The descriptor of a stream of this process, if the path names one."""
    folder = os.path.realpath(path.parent)
    return int(path.name) if path.name.isdecimal() and folder in ("/dev/fd", f"/proc/{os.getpid()}/fd") else None


def _check_access(path: Path, real: Path) -> None:
    if not os.access(real, os.W_OK, effective_ids=os.access in os.supports_effective_ids):
        raise OSError(f"cannot write {path}: no permission to write {real}")


def _replace(target: Path, data: bytes) -> None:
    temporary = target.parent / f".{secrets.token_hex(8)}.tmp"
    try:
        with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666), "wb") as file:
            file.write(data)
            file.flush()
            if target.exists():
                os.fchmod(file.fileno(), stat.S_IMODE(target.stat().st_mode))
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except FileExistsError:  # another process owns it
        raise
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


_ARRAY = "array"

_DIGEST_SIZE = hashlib.sha256().digest_size


def packed(tree: Any) -> bytes:
    """Packs a tree of dicts with string keys, lists, arrays, numbers, strings and None as NPZ.

    Arrays are members of the archive; the rest is JSON in another member. The comment at the end of the archive is a
    digest of everything before it.

    Example:
      >>> unpacked(packed({"a": [np.arange(2), None], "b": 2**70}))
      {'a': [array([0, 1]), None], 'b': 1180591620717411303424}
    """
    arrays: dict[str, np.ndarray] = {}

    def plain(node: Any) -> Any:
        if isinstance(node, np.ndarray):
            arrays[f"{_ARRAY}{len(arrays)}"] = node
            return {_ARRAY: len(arrays) - 1}
        if isinstance(node, dict):
            assert _ARRAY not in node, node
            return {key: plain(value) for key, value in node.items()}
        if isinstance(node, list | tuple):
            return [plain(value) for value in node]
        return node

    buffer = io.BytesIO()
    text = json.dumps(plain(tree))
    np.savez(buffer, allow_pickle=False, tree=np.array(text), **arrays)
    buffer.seek(-2, io.SEEK_END)  # the size of the comment is the last thing in a ZIP archive without one
    buffer.write(_DIGEST_SIZE.to_bytes(2, "little"))
    with buffer.getbuffer() as content:
        digest = hashlib.sha256(content).digest()
    buffer.write(digest)
    return buffer.getvalue()


def unpacked(data: bytes) -> Any:
    """The inverse of `packed`; tuples come back as lists. Nothing is decoded before the digest is verified.

    Raises:
      ValueError: the bytes were not made by `packed`, or are damaged.
    """
    content = memoryview(data)
    if hashlib.sha256(content[:-_DIGEST_SIZE]).digest() != content[-_DIGEST_SIZE:]:
        raise ValueError("its digest does not match its contents")
    try:
        with np.lib.npyio.NpzFile(io.BytesIO(data), own_fid=True, allow_pickle=False) as stored:
            arrays = dict(stored)
        for name, array in arrays.items():
            if not isinstance(array, np.ndarray):
                raise ValueError(f"{name} is not an array")

        def whole(node: Any) -> Any:
            if isinstance(node, list):
                return [whole(value) for value in node]
            if isinstance(node, dict):
                return arrays[f"{_ARRAY}{node[_ARRAY]}"] if _ARRAY in node else {k: whole(v) for k, v in node.items()}
            return node

        return whole(json.loads(str(arrays["tree"])))
    except Exception as error:  # a flipped bit can raise almost anything in zipfile and NumPy
        reason = (str(error).splitlines() or [""])[0]
        raise ValueError("it holds Python objects" if "pickle" in reason else reason or type(error).__name__) from None
