"""The private names of tensorflow-datasets that zero-jax relies on, all of them.

tensorflow-datasets reads data without TensorFlow. But to prepare a set it opens files and writes PNGs through
TensorFlow, and it offers no setting for retries and progress bars. `tests/test_tfds_private.py` fails when a version
renames one of these.
"""

import contextlib
import importlib.util
import io
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np
from tqdm.auto import tqdm


def root(builder: Any) -> Path:
    """The folder in which a builder keeps all sets."""
    return Path(builder._data_dir_root).expanduser()


class _Bar(tqdm):
    """A progress bar that appears only in a terminal, and leaves nothing there."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options | {"disable": None, "leave": False})


def _png(_: Any, image: np.ndarray) -> bytes:
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(file, "png")
    return file.getvalue()


@contextlib.contextmanager
def patched(builder: Any, attempts: int) -> Iterator[None]:
    """While it is open, a builder can prepare its set without TensorFlow, and a failed download ends soon.

    Where TensorFlow is not installed, Python opens files in its place, and Pillow writes PNGs.

    Args:
      builder: of tensorflow-datasets.
      attempts: how often to retry a download.
    """
    from tensorflow_datasets.core.download import downloader, extractor
    from tensorflow_datasets.core.features import image_feature
    from tensorflow_datasets.core.utils import tqdm_utils

    files = SimpleNamespace(gfile=SimpleNamespace(GFile=open))
    tensorflow = SimpleNamespace(io=files, compat=SimpleNamespace(as_text=str))
    one = downloader._Downloader()
    with contextlib.ExitStack() as stack:
        stack.enter_context(mock.patch.object(downloader, "MAX_RETRIES", attempts))
        stack.enter_context(mock.patch.object(downloader, "get_downloader", return_value=one))
        stack.enter_context(mock.patch.object(tqdm_utils, "tqdm_lib", SimpleNamespace(tqdm=_Bar)))
        if not importlib.util.find_spec("tensorflow"):
            stack.enter_context(mock.patch.object(image_feature._ImageEncoder, "_encode_image", _png))
            for module in (extractor, sys.modules[type(builder).__module__]):
                stack.enter_context(mock.patch.object(module, "tf", tensorflow, create=True))
        try:
            yield
        except Exception:
            one._executor.shutdown(cancel_futures=True)  # the threads of other files would go on and report
            raise
