"""Sets of images in files: IDX (as MNIST has them), NPZ, folders of pictures, and Parquet.

`n` training and `m` test images of `H` x `W` pixels with `C` channels.
"""

import gzip
import hashlib
import io
import re
import struct
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from zero_jax.support.bounds import MAX_BYTES
from zero_jax.support.foreign import shown

PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff")
"""The files that count as pictures in a folder."""

_IDX = re.compile(r"(?P<part>train|t10k|test)[-_.](?P<what>images|labels)[-_.]idx(?P<axes>\d)[-_.]ubyte(\.gz)?")
_BYTES = 0x08
"""The only type of an IDX file that images and labels have: unsigned bytes."""

_NAMES = ({"train": ("train_images", "train_labels"), "test": ("test_images", "test_labels")},
          {"train": ("x_train", "y_train"), "test": ("x_test", "y_test")})  # fmt: skip
"""What arrays are called in an NPZ file: as here, or as Keras has them."""

EXPECTED = (
    "a folder with IDX files (train-images-idx3-ubyte and so on, also .gz), with one folder of pictures for each class "
    "(or train and test with such folders) or with Parquet files (train*.parquet, test*.parquet); an .npz file with "
    "train_images and train_labels; or a .parquet file with columns image and label"
)


class Read(NamedTuple):
    """A set as it was read.

    Attributes:
      train_images, test_images: `[n, H, W, C]` and `[m, H, W, C]` uint8; m may be 0.
      train_labels, test_labels: `[n]` and `[m]` int32, the numbers of classes.
      class_names: What the classes are called.
    """

    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray
    class_names: tuple[str, ...]

    def digest(self) -> str:
        """What tells sets apart, wherever they lie: 16 hexadecimal digits of a hash of their content."""
        state = hashlib.blake2b(digest_size=8)
        for array in self[:4]:
            state.update(f"{array.shape}".encode())
            state.update(np.ascontiguousarray(array).data)
        return state.hexdigest()


def read(path: Path) -> Read:
    """A set of images from disk.

    Args:
      path: As `EXPECTED` says.

    Raises:
      ValueError: nothing is there, or no set of images; a damaged file; images of several sizes; labels that do not
        match the images.
    """
    try:
        parts, names = _parts(path)
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror or error}") from None
    if "train" not in parts:
        raise ValueError(f"{path} has no training images; expected {EXPECTED}")
    train, labels = _checked(path, "train", *parts["train"], names)
    test, test_labels = train[:0], labels[:0]
    if "test" in parts:
        test, test_labels = _checked(path, "test", *parts["test"], names)
        if len(test) and test.shape[1:] != train.shape[1:]:
            raise ValueError(
                f"{path}: training images are {_size(train)}, test images {_size(test)}; tasks need images of one size"
            )
    return Read(train, labels, test, test_labels, names or tuple(str(i) for i in range(int(labels.max()) + 1)))


Parts = dict[str, tuple[np.ndarray, np.ndarray]]


def _parts(path: Path) -> tuple[Parts, tuple[str, ...]]:
    """Images and labels by part, and the names of classes where there are any."""
    if not path.exists():
        raise ValueError(f"there is no {path}; images: takes {EXPECTED}")
    if path.is_dir():
        if found := {file: match for file in sorted(path.iterdir()) if (match := _IDX.fullmatch(file.name))}:
            return _idx_parts(path, found), ()
        if any(path.glob("*.parquet")):
            return _parquet_parts({part: sorted(path.glob(f"{part}*.parquet")) for part in ("train", "test")})
        return _picture_parts(path)
    if path.suffix == ".npz":
        return _npz_parts(path)
    if path.suffix == ".parquet":
        return _parquet_parts({"train": [path], "test": []})
    raise ValueError(f"{path} is no set of images; expected {EXPECTED}")


def _checked(
    path: Path, part: str, images: np.ndarray, labels: np.ndarray, names: Sequence[str]
) -> tuple[np.ndarray, np.ndarray]:
    """Images as `[n, H, W, C]`, and labels as int32."""
    if images.dtype != np.uint8 or images.ndim not in (3, 4) or not images[:1].size:
        raise ValueError(
            f"{path}: {part} images must be n images of H x W pixels or H x W x C numbers from 0 to 255 (uint8), not "
            f"{images.dtype} of shape {images.shape}"
        )
    if labels.ndim == 2 and labels.shape[1] == 1:  # as Keras has those of CIFAR-10
        labels = labels[:, 0]
    if labels.shape != images.shape[:1]:
        raise ValueError(f"{path}: {len(images):,} {part} images, but labels of shape {labels.shape}: one for each")
    if labels.dtype.kind not in "iu" or labels.min() < 0 or (names and labels.max() >= len(names)):
        most = f"below {len(names)}" if names else "0 or more"
        raise ValueError(f"{path}: {part} labels must be whole numbers, {most}: the numbers of classes")
    if labels.max() >= 100_000:
        raise ValueError(f"{path}: {part} labels go up to {labels.max():,}; that many classes there are not")
    return images.reshape(*images.shape[:3], -1), labels.astype(np.int32)


def _size(images: np.ndarray) -> str:
    return " x ".join(map(str, images.shape[1:]))


# ---------------------------------------------------------------------------------------------- IDX


def _idx_parts(path: Path, found: dict[Path, re.Match[str]]) -> Parts:
    arrays: dict[tuple[str, str], np.ndarray] = {}
    for file, match in found.items():
        key = match["part"].replace("t10k", "test"), match["what"]
        if key in arrays:
            raise ValueError(f"{path} has the {key[0]} {key[1]} twice, once in {file.name}: keep one of the files")
        arrays[key] = read_idx(file)
    parts = {}
    for part in {part for part, _ in arrays}:
        missing = [what for what in ("images", "labels") if (part, what) not in arrays]
        if missing:
            raise ValueError(f"{path} has no file with the {part} {missing[0]}")
        parts[part] = arrays[part, "images"], arrays[part, "labels"]
    return parts


def read_idx(path: Path) -> np.ndarray:
    """The array of unsigned bytes in an IDX file, which may be compressed with gzip.

    The format: two bytes 0, the type (8: unsigned bytes), the number of axes, the length of each as 4 bytes, the most
    significant first, and the numbers (http://yann.lecun.com/exdb/mnist/).

    Raises:
      ValueError: another kind of file, or one that is cut short or goes on.
    """
    with path.open("rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
    try:
        with gzip.open(path) if packed else path.open("rb") as file:
            zeros, kind, axes = struct.unpack(">HBB", file.read(4))
            if zeros or kind != _BYTES or not 1 <= axes <= 4:
                raise ValueError(f"{path} is not an IDX file of unsigned bytes")
            shape = struct.unpack(f">{axes}I", file.read(4 * axes))
            size = int(np.prod(shape, dtype=np.float64))
            if size > MAX_BYTES:
                raise ValueError(f"{path} says that it holds {size:,} bytes, more than {MAX_BYTES:,}: it is damaged")
            data = file.read(size + 1)
    except (struct.error, EOFError, gzip.BadGzipFile) as error:
        raise ValueError(f"{path} is damaged or no IDX file ({error})") from None
    except Exception as error:
        if isinstance(error, ValueError | OSError):
            raise
        raise ValueError(f"{path} is damaged ({error})") from None
    if len(data) != size:
        length = f"{len(data):,}" if len(data) < size else "more"
        raise ValueError(f"{path} is damaged: its first bytes promise {size:,} numbers, it has {length}")
    return np.frombuffer(data, np.uint8).reshape(shape)


# ---------------------------------------------------------------------------------------------- NPZ


def _npz_parts(path: Path) -> tuple[Parts, tuple[str, ...]]:
    try:
        with np.load(path) as file:
            stored = {name: file[name] for name in file.files}
    except (ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} is no NPZ file of plain arrays, or damaged ({error})") from None
    for names in _NAMES:
        parts = {part: tuple(stored[key] for key in keys) for part, keys in names.items() if set(keys) <= set(stored)}
        if "train" in parts:
            classes = tuple(str(name) for name in np.ravel(stored.get("class_names", np.array([], str))))
            return parts, classes
    have = f"it has {', '.join(map(shown, list(stored)[:8]))}" if stored else "it is empty"
    raise ValueError(f"{path} has no train_images and train_labels, nor x_train and y_train; {have}")


# ---------------------------------------------------------------------------------------------- pictures


def _picture_parts(path: Path) -> tuple[Parts, tuple[str, ...]]:
    """Of folders that are called as their classes."""
    tops = {part: path / part for part in ("train", "test") if (path / part).is_dir()} or {"train": path}
    classes = tuple(sorted({folder.name for top in tops.values() for folder in top.iterdir() if _pictures(folder)}))
    if not classes:
        raise ValueError(f"{path} is no set of images; expected {EXPECTED}")
    parts = {}
    for part, top in tops.items():
        files = [(file, number) for number, name in enumerate(classes) for file in _pictures(top / name)]
        if files:
            images = _stacked([(str(file), file) for file, _ in files])
            parts[part] = images, np.array([number for _, number in files])
    return parts, classes


def _pictures(folder: Path) -> list[Path]:
    return sorted(file for file in folder.glob("*") if file.suffix.lower() in PICTURES) if folder.is_dir() else []


def _stacked(named: Sequence[tuple[str, Any]]) -> np.ndarray:
    """`[n, H, W, C]` of pictures that Pillow reads, each with what to call it: grey if all are, else RGB."""
    from PIL import Image, UnidentifiedImageError

    images, grey = [], True
    for name, file in named:
        try:
            with Image.open(file) as image:
                grey = grey and image.mode in ("1", "L")
                images.append(np.asarray(image.convert("L" if image.mode in ("1", "L") else "RGB")))
        except (UnidentifiedImageError, OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            raise ValueError(f"{name} is no picture, or damaged ({error})") from None
        if images[-1].shape[:2] != images[0].shape[:2]:
            width, height = images[-1].shape[1::-1]
            first = f"{named[0][0]} {images[0].shape[1]} x {images[0].shape[0]}"
            raise ValueError(
                f"{name} is {width} x {height} pixels, {first}: tasks need images of one size: scale them first"
            )
    rgb = [np.repeat(image[..., None], 3, -1) if image.ndim == 2 and not grey else image for image in images]
    return np.stack(rgb)


# ---------------------------------------------------------------------------------------------- Parquet


def _parquet_parts(files: dict[str, list[Path]]) -> tuple[Parts, tuple[str, ...]]:
    """Of tables with encoded pictures and their labels, as datasets on Hugging Face have them."""
    import pandas as pd

    tables = {}
    for part, some in files.items():
        try:
            if some:
                tables[part] = pd.concat([pd.read_parquet(file) for file in some], ignore_index=True)
        except ImportError:
            raise ValueError("Parquet files need pyarrow: pip install pyarrow") from None
        except Exception as error:
            raise ValueError(f"{some[0]} is no Parquet file, or damaged ({str(error).splitlines()[0]})") from None
        for column in ("image", "label"):
            if part in tables and column not in tables[part]:
                columns = ", ".join(shown(name) for name in list(tables[part])[:8])
                raise ValueError(f"{some[0]} has no column {column}; its columns are {columns}")
    texts = any(table["label"].dtype.kind not in "iu" for table in tables.values())
    names = sorted({str(label) for table in tables.values() for label in table["label"]}) if texts else []
    number_of = {name: number for number, name in enumerate(names)}
    parts = {}
    for part, table in tables.items():
        encoded: list[Any] = [one.get("bytes") if isinstance(one, dict) else one for one in table["image"]]
        for number, one in enumerate(encoded):
            if not isinstance(one, bytes):
                raise ValueError(f"{files[part][0]}: image {number} is not the bytes of a picture")
        images = _stacked(
            [(f"{files[part][0]}: image {number}", io.BytesIO(one)) for number, one in enumerate(encoded)]
        )
        labels = [number_of[str(label)] for label in table["label"]] if names else table["label"]
        parts[part] = images, np.array(labels)
    return parts, tuple(names)
