"""Files that are either whole or not there, and trees of arrays and plain values as bytes."""

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
    """Writes a file under another name, then renames it: a reader, or a crash, never meets half of it.

    A link is followed: what it leads to is written, and the link stays. A file that is there keeps its permissions, but
    of several hard links to it only this one leads to the new file. Character devices, and the streams of this process
    as /dev/stdout and /dev/fd/3 name them, are written to directly.

    Raises:
      OSError: naming the file: it cannot be written, or `check_writable` refuses it.
    """
    data = content.encode() if isinstance(content, str) else content
    try:
        target = _target(Path(path))
        if isinstance(target, Path):
            _replace(target, data)
        else:
            sys.stdout.flush()  # what was printed before stands before
            with open(target, "wb", closefd=isinstance(target, str)) as stream:
                stream.write(data)
    except OSError as error:
        if error.errno is None:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error


def check_writable(path: str | Path) -> None:
    """Refuses a path that `write_atomically` could not write, before there is anything to write.

    Raises:
      ValueError: what stands there is a folder, a FIFO, a socket or a disk, or may not be written; or there is no
        folder for it, or none that may be written.
    """
    try:
        _target(Path(path))
    except OSError as error:
        raise ValueError(str(error) if error.errno is None else f"cannot write {path}: {error.strerror}") from None


def _target(path: Path) -> Path | int | str:
    """Where to write for a path: a file to replace or to make, a descriptor, or the name of a character device."""
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
            raise OSError(f"cannot write {path}: no folder {real.parent}") from None
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
"""So many links in a row are followed, as by Linux."""

_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a FIFO"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISBLK, "a block device"),
)


def _own_descriptor(path: Path) -> int | None:
    """The number of a stream of this process, if that is what a path names."""
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
    except FileExistsError:  # not ours to remove
        raise
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


_ARRAY = "array"

_DIGEST_SIZE = hashlib.sha256().digest_size


def packed(tree: Any) -> bytes:
    """A tree of dicts with text keys, lists, arrays, numbers, texts and None as NPZ: its arrays, and all else as JSON.

    The comment at the end of that archive is a digest of all before it.

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
      ValueError: bytes that are none of its.
    """
    content = memoryview(data)
    if hashlib.sha256(content[:-_DIGEST_SIZE]).digest() != content[-_DIGEST_SIZE:]:
        raise ValueError("its digest does not match its contents")
    try:
        with np.lib.npyio.NpzFile(io.BytesIO(data), own_fid=True, allow_pickle=False) as stored:
            arrays = dict(stored)
        for name, array in arrays.items():
            if not isinstance(array, np.ndarray):
                raise ValueError(f"{name} is no array")

        def whole(node: Any) -> Any:
            if isinstance(node, list):
                return [whole(value) for value in node]
            if isinstance(node, dict):
                return arrays[f"{_ARRAY}{node[_ARRAY]}"] if _ARRAY in node else {k: whole(v) for k, v in node.items()}
            return node

        return whole(json.loads(str(arrays["tree"])))
    except Exception as error:  # whatever a flipped bit makes zipfile and NumPy stumble over
        told = (str(error).splitlines() or [""])[0]
        raise ValueError("it holds Python objects" if "pickle" in told else told or type(error).__name__) from None
