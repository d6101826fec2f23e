"""Sets of images made ready by tensorflow-datasets: downloaded, written in its own format, and read.

Imported only when a set has to be prepared, since it takes a second.
"""

import contextlib
import importlib.util
import io
import json
import logging
import os
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np
from tqdm.auto import tqdm

from zero_jax.support.foreign import shown

FORMAT = "array_record"
"""Of tensorflow-datasets' formats, one that serves examples in any order, without TensorFlow."""

_UNFINISHED = "*.tmp.*"
"""The folders that tensorflow-datasets downloads into; it leaves them behind where that fails."""

ATTEMPTS = 3
"""How often to try a download again; tensorflow-datasets tries 10 times, for minutes."""


def prepared(name: str, classes: int, copy_to: Path) -> tuple[str, dict[str, Any]]:
    """The version of a set, and its first classes as `images.load` keeps them.

    Args:
      name: as tensorflow-datasets calls it.
      classes: how many classes to keep.
      copy_to: the folder that keeps sets, for messages.

    Raises:
      ValueError: as `images.load`.
    """
    tfds = _tensorflow_datasets(name, copy_to)
    with _quiet():
        builder = _builder(tfds, name)
        _check_features(tfds, name, builder.info.features)
        if not builder.is_prepared():
            _prepare(builder, name, copy_to)
        splits = builder.info.splits
        if splits and "train" not in splits:
            raise ValueError(f"{name} has no split train; its splits are {', '.join(splits)}")
        tests = [split for split in ("test", "validation") if split in splits]
        try:
            train = _arrays(builder, "train", classes)
            test = _arrays(builder, tests[0], classes) if tests else {key: array[:0] for key, array in train.items()}
        except Exception as error:
            raise ValueError(
                f"{name} lies in {builder.data_dir}, but cannot be read there ({_line(error)}). Set TFDS_DATA_DIR to "
                "another folder, and it is prepared anew"
            ) from None
    parts = {
        f"{part}_{key}": array for part, found in (("train", train), ("test", test)) for key, array in found.items()
    }
    return str(builder.version), parts | {"class_names": builder.info.features["label"].names[:classes]}


def _tensorflow_datasets(name: str, copy_to: Path) -> Any:
    missing = [package for package in ("tensorflow_datasets", "array_record") if not importlib.util.find_spec(package)]
    if missing:
        raise ValueError(
            f"{name} cannot be prepared here without the package {missing[0]}, which pip has for Linux and for macOS "
            f"on ARM. {_elsewhere(name, copy_to)}"
        )
    import tensorflow_datasets

    return tensorflow_datasets


def _builder(tfds: Any, name: str) -> Any:
    try:
        return tfds.builder(name, data_dir=os.environ.get("TFDS_DATA_DIR"))
    except Exception as error:
        raise ValueError(f"tensorflow-datasets {tfds.__version__} has no set {shown(name)}: {_line(error)}") from None


def _check_features(tfds: Any, name: str, features: Any) -> None:
    kinds = {"image": tfds.features.Image, "label": tfds.features.ClassLabel}
    names = list(features) if isinstance(features, tfds.features.FeaturesDict) else []
    missing = [key for key, kind in kinds.items() if key not in names or not isinstance(features[key], kind)]
    if missing:
        told = f"its features are {', '.join(names)}" if names else "its examples have no named features"
        raise ValueError(f"{name} is no set of images with a class each: it has no feature {missing[0]}; {told}")
    image = features["image"]
    if None in image.shape:
        shape = " x ".join("?" if n is None else str(n) for n in image.shape)
        raise ValueError(f"the images of {name} vary in shape ({shape}); tasks need images of one shape")
    if image.np_dtype != np.uint8:
        raise ValueError(f"the images of {name} are of {np.dtype(image.np_dtype)}, not uint8")


def _prepare(builder: Any, name: str, copy_to: Path) -> None:
    downloads = Path(builder._data_dir_root).expanduser() / "downloads"
    before = set(downloads.rglob(_UNFINISHED))
    try:
        with _without_tensorflow(builder):
            builder.download_and_prepare(file_format=FORMAT, download_dir=downloads)
    except Exception as error:
        for unfinished in set(downloads.rglob(_UNFINISHED)) - before:
            shutil.rmtree(unfinished, ignore_errors=True)
        raise ValueError(
            f"{name} could not be downloaded and prepared: {_line(error)}. {_elsewhere(name, copy_to)}"
        ) from None


def _elsewhere(name: str, copy_to: Path) -> str:
    """What to do on another machine."""
    load = f"python -c {json.dumps(f'from zero_jax.tasks import images as i; i.load({name!r}); print(i.folder())')}"
    folder = re.split("[:/]", name)[0]
    return (
        f"On a machine with network run {load}, and copy {folder} from the folder that it prints to {copy_to}. Or, "
        f"where TensorFlow is installed, tfds build {name} --file_format={FORMAT}, and copy "
        f"~/tensorflow_datasets/{folder} to {os.environ.get('TFDS_DATA_DIR', '~/tensorflow_datasets')}"
    )


def _arrays(builder: Any, split: str, classes: int) -> dict[str, np.ndarray]:
    """`images` and `labels` of one split, of the first classes."""
    images, labels = [], []
    for example in tqdm(builder.as_data_source(split=split), f"{builder.name} {split}", unit=" images", disable=None):
        if example["label"] < classes:
            images.append(example["image"])
            labels.append(example["label"])
    shape = builder.info.features["image"].shape
    return {"images": np.array(images, np.uint8).reshape(-1, *shape), "labels": np.array(labels, np.int32)}


@contextlib.contextmanager
def _without_tensorflow(builder: Any) -> Iterator[None]:
    """tensorflow-datasets reads without TensorFlow, but opens what it downloads, and writes PNGs, by TensorFlow's names
    for that: while it prepares a set, where TensorFlow is not installed, they stand for Python's and Pillow's own.
    """
    from PIL import Image
    from tensorflow_datasets.core.download import downloader, extractor
    from tensorflow_datasets.core.features import image_feature
    from tensorflow_datasets.core.utils import tqdm_utils

    def png(_: Any, image: np.ndarray) -> bytes:
        file = io.BytesIO()
        Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(file, "png")
        return file.getvalue()

    files = SimpleNamespace(gfile=SimpleNamespace(GFile=open))
    tensorflow = SimpleNamespace(io=files, compat=SimpleNamespace(as_text=str))
    one = downloader._Downloader()
    with contextlib.ExitStack() as stack:
        stack.enter_context(mock.patch.object(downloader, "MAX_RETRIES", ATTEMPTS))
        stack.enter_context(mock.patch.object(downloader, "get_downloader", return_value=one))
        stack.enter_context(mock.patch.object(tqdm_utils, "tqdm_lib", SimpleNamespace(tqdm=_Bar)))
        if not importlib.util.find_spec("tensorflow"):
            stack.enter_context(mock.patch.object(image_feature._ImageEncoder, "_encode_image", png))
            for module in (extractor, sys.modules[type(builder).__module__]):
                stack.enter_context(mock.patch.object(module, "tf", tensorflow, create=True))
        try:
            yield
        except Exception:
            one._executor.shutdown(cancel_futures=True)  # other files' threads would still try, and tell
            raise


class _Bar(tqdm):
    """A bar in a terminal alone, that leaves nothing there."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options | {"disable": None, "leave": False})


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without what tensorflow-datasets prints, and its warnings: it recommends OpenCV, and a failing download tells
    of each attempt.
    """
    before = {log: log.level for log in map(logging.getLogger, ("absl", "urllib3"))}
    for log in before:
        log.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        for log, level in before.items():
            log.setLevel(level)


def _line(error: Exception) -> str:
    """The first line of what an error says, and of an error of requests less."""
    url = getattr(getattr(error, "request", None), "url", None)
    if url and isinstance(error, OSError):
        return f"no connection to {url}"
    return (str(error).strip() or type(error).__name__).splitlines()[0][:300]
