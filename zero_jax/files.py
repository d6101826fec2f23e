"""Files that are either whole or not there, and trees of arrays and plain values as bytes."""

import hashlib
import io
import json
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np


def write_atomically(path: Path, content: str | bytes) -> None:
    """Writes a file under another name, then renames it: a reader, or a crash, never meets half of it.

    Raises:
      OSError: naming the file.
    """
    try:
        _write_atomically(path, content.encode() if isinstance(content, str) else content)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error


def _write_atomically(path: Path, data: bytes) -> None:
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
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
        raise ValueError("its digest is not that of its content: it is damaged, or of an older version of zero-jax")
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
