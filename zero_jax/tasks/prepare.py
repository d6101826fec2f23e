"""Prepares sets of images with tensorflow-datasets: downloads them, writes them in its own format, and reads them.

Imported only when a set must be prepared; so are the packages that nothing else needs (array_record,
importlib_resources, pillow, tensorflow-datasets).
"""

import contextlib
import importlib.util
import io
import json
import logging
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from tqdm.auto import tqdm

from zero_jax.support.foreign import shown
from zero_jax.tasks import tfds_private as private

FORMAT = "array_record"
"""The format of tensorflow-datasets that gives random access to examples without TensorFlow."""

_UNFINISHED = "*.tmp.*"
"""The folders that tensorflow-datasets downloads into, and leaves behind if the download fails."""

ATTEMPTS = 3
"""How often a failed download is retried; by default tensorflow-datasets retries 10 times, for minutes."""


def prepared(name: str, classes: int, copy_to: Path) -> tuple[str, dict[str, Any]]:
    """The version of a set, and the arrays of its first classes in the form that `images.load` keeps.

    Args:
      name: its name in tensorflow-datasets.
      classes: the number of classes to keep.
      copy_to: the folder that keeps sets, for error messages.

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
                f"{name} is in {builder.data_dir}, but cannot be read ({_line(error)}). Set TFDS_DATA_DIR to another "
                "folder to prepare it again"
            ) from None
    parts = {
        f"{part}_{key}": array for part, arrays in (("train", train), ("test", test)) for key, array in arrays.items()
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
        features = f"its features are {', '.join(names)}" if names else "its examples have no named features"
        raise ValueError(f"{name} is not a set of images with class labels: it lacks feature {missing[0]}; {features}")
    image = features["image"]
    if None in image.shape:
        shape = " x ".join("?" if n is None else str(n) for n in image.shape)
        raise ValueError(f"the images of {name} vary in shape ({shape}); tasks need images of one shape")
    if image.np_dtype != np.uint8:
        raise ValueError(f"the images of {name} are of {np.dtype(image.np_dtype)}, not uint8")


def _prepare(builder: Any, name: str, copy_to: Path) -> None:
    downloads = private.root(builder) / "downloads"
    before = set(downloads.rglob(_UNFINISHED))
    try:
        with private.patched(builder, ATTEMPTS):
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
def _quiet() -> Iterator[None]:
    """Hides the output and warnings of tensorflow-datasets, which recommends OpenCV and reports each failed attempt."""
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
    """The first line of an error message; shorter for errors of requests."""
    url = getattr(getattr(error, "request", None), "url", None)
    if url and isinstance(error, OSError):
        return f"no connection to {url}"
    return (str(error).strip() or type(error).__name__).splitlines()[0][:300]
