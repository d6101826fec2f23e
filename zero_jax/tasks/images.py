"""Sets of images with classes: from files, or from tensorflow-datasets, kept on disk as arrays.

Axes: `n` training and `m` test images of `H` x `W` pixels with `C` channels.
"""

import functools
import os
import re
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from zero_jax.support.files import packed, unpacked, write_atomically
from zero_jax.support.foreign import shown


class Known(NamedTuple):
    """The sizes of a set, known before it is downloaded.

    Attributes:
      train: training images of a task with two classes.
      valid: validation images of such a task.
      features: the numbers in an image.
      classes: the number of classes.
    """

    train: int
    valid: int
    features: int
    classes: int


SETS = {
    "cifar10": Known(8000, 1000, 3072, 10),
    "mnist": Known(8000, 1000, 784, 10),
    "fashion_mnist": Known(8000, 1000, 784, 10),
    "svhn_cropped": Known(7600, 1000, 3072, 10),
    "imagenet_resized/32x32": Known(1600, 200, 3072, 1000),
}
"""The sets of the paper, by tensorflow-datasets' names. Tasks are of upstream's 8,000 and 1,000 images where there are
as many (SVHN has 9,607 of 0 and 9, ImageNet at most 1,300 of a class). Of ImageNet it is the one with classes:
`downsampled_imagenet` has no classes."""

FILES = "images:"
"""How a source that is a path begins."""

CLASSES = 10
"""The number of classes from which tasks are made."""

PACKAGED = {
    "fashion_mnist": (
        Path("/usr/share/datasets/fashion-mnist"),
        ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
    )
}
"""Sets that a package of Debian brings along (`dataset-fashion-mnist`), as IDX files, and their classes."""

CACHE = "ZERO_JAX_CACHE"
"""The environment variable with the folder for sets; by default they are in the user's cache folder."""


class Images(NamedTuple):
    """A set of images.

    Attributes:
      name: of the set, with its version: `cifar10:3.0.2`; from files, with a hash of its content.
      train_images: `[n, H, W, C]` uint8, in the order of tensorflow-datasets or of the files.
      train_labels: `[n]` int32 class ids, from 0.
      test_images: `[m, H, W, C]` uint8; of sets without a test split the validation split, m = 0 without either.
      test_labels: `[m]` int32.
      class_names: what the classes are called.
    """

    name: str
    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray
    class_names: tuple[str, ...]


def load(name: str, classes: int = CLASSES) -> Images:
    """A set of tensorflow-datasets, downloaded and prepared when it is asked for the first time; or one in files.

    Fashion-MNIST is read from Debian's package, where that is installed and nothing was prepared before.
    `load("cifar10").train_images` is `[50000, 32, 32, 3]`. What was prepared is one file below `folder()`, so that a
    machine without network needs only a copy of it. The arrays are shared between callers, and read-only.

    Args:
      name: of a set, `cifar10`; with a configuration, `imagenet_resized/32x32`; with a version, `cifar10:3.0.2`.
        Without one, the newest that was prepared before, or else tensorflow-datasets' own. Or `images:PATH`, as
        `image_files.read` takes it.
      classes: the number of classes whose images are kept, the first ones. (All 1,000 of ImageNet take 4 GB.)

    Raises:
      ValueError: a set that tensorflow-datasets does not have, or that lacks images of one shape with one class
        each; no network, or another reason why it cannot be prepared; a damaged file.
    """
    if classes < 2:
        raise ValueError(f"classes must be at least 2, not {classes}")
    if name.startswith(FILES):
        return _first(_in_files(Path(name.removeprefix(FILES)).expanduser().absolute()), classes)
    if not re.fullmatch(r"\w+(/\w[\w.-]*)?(:\d+\.\d+\.\d+)?", name):
        raise ValueError(
            f"a set of images is called like cifar10, imagenet_resized/32x32 or cifar10:3.0.2, not {shown(name)}"
        )
    packaged, names = PACKAGED.get(name, (None, ()))
    if packaged and packaged.is_dir() and _kept(name, classes, folder()) is None:
        return _first(_in_files(packaged)._replace(class_names=names), classes)
    return _load(name, classes, folder())


def _in_files(path: Path) -> Images:
    """A set on disk, read again if a file of it has changed."""
    files = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
    times = tuple(file.stat().st_mtime_ns for file in files if file.exists())
    return _in_files_once(path, times)


@functools.lru_cache(maxsize=2)
def _in_files_once(path: Path, times: tuple[int, ...]) -> Images:
    from zero_jax.tasks import image_files

    found = image_files.read(path)
    for array in found[:4]:
        array.flags.writeable = False
    return Images(f"{FILES}{found.digest()}", *found)


def _first(images: Images, classes: int) -> Images:
    """The images of the first classes."""
    if classes >= len(images.class_names):
        return images
    train, test = images.train_labels < classes, images.test_labels < classes
    return Images(
        images.name,
        images.train_images[train],
        images.train_labels[train],
        images.test_images[test],
        images.test_labels[test],
        images.class_names[:classes],
    )


def folder() -> Path:
    """Where sets are kept: `images` in $ZERO_JAX_CACHE, or in the user's cache folder."""
    import platformdirs

    given = os.environ.get(CACHE) or platformdirs.user_cache_path("zero-jax")
    return Path(given).expanduser().absolute() / "images"


@functools.lru_cache(maxsize=2)
def _load(name: str, classes: int, where: Path) -> Images:
    try:
        path = _kept(name, classes, where) or _prepared(name, classes, where)
    except OSError as error:
        says = f"{CACHE} is {os.environ[CACHE]}: set it" if os.environ.get(CACHE) else f"set {CACHE}"
        raise ValueError(f"sets of images cannot be kept in {where} ({error}). {says} to another folder") from None
    return _read(name.partition(":")[0], path)


def _prepared(name: str, classes: int, where: Path) -> Path:
    """The file of a set that is prepared now, unless another process just did."""
    from filelock import FileLock

    where.mkdir(parents=True, exist_ok=True)
    with FileLock(where / ".lock"):  # one for all sets, so that unknown names leave nothing behind
        path = _kept(name, classes, where)
        if path is None:
            from zero_jax.tasks import prepare  # tensorflow-datasets takes a second to import

            version, images = prepare.prepared(name, classes, where)
            path = where / name.partition(":")[0] / f"{version}-{classes}.npz"
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, packed(images))
    return path


def _kept(name: str, classes: int, where: Path) -> Path | None:
    """The file of a set, in the version that the name gives or the newest; None if there is no file."""
    base, _, version = name.partition(":")
    files = (where / base).glob(f"{version or '*'}-{classes}.npz")
    return max(files, key=lambda path: [int(number) for number in re.findall(r"\d+", path.name)], default=None)


def _read(base: str, path: Path) -> Images:
    try:
        tree: dict[str, Any] = unpacked(path.read_bytes())
        images = Images(f"{base}:{path.name.rpartition('-')[0]}", **tree | {"class_names": tuple(tree["class_names"])})
        _check(images)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise ValueError(
            f"{path} is truncated or damaged ({error}): delete it to have the set prepared again, or replace it with "
            "an intact copy"
        ) from None
    for array in images[1:5]:
        array.flags.writeable = False
    return images


def _check(images: Images) -> None:
    """Checks that a file holds what `Images` describes.

    Raises:
      ValueError: if not.
    """
    if not images.class_names or not all(isinstance(name, str) for name in images.class_names):
        raise ValueError("class_names must be strings")
    pixels, size = images.train_images, len(images.class_names)
    for part, x, y in (("train", pixels, images.train_labels), ("test", images.test_images, images.test_labels)):
        if not isinstance(x, np.ndarray) or x.dtype != np.uint8 or x.ndim != 4 or x.shape[1:] != pixels.shape[1:]:
            raise ValueError(f"{part}_images are not [n, H, W, C] uint8, or not of the shape of the others")
        if not isinstance(y, np.ndarray) or y.dtype.kind not in "iu" or y.shape != (len(x),):
            raise ValueError(f"{part}_labels are not a whole number for each image")
        if len(y) and y.max() >= size:
            raise ValueError(f"{part}_labels go up to {y.max()}, but there are {size} class_names")
    if not pixels.size:
        raise ValueError("there are no training images")
