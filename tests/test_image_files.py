"""The folder that keeps sets of images, and files in it that are damaged or were made by others; all without network."""

import io
import re

import numpy as np
import pytest

from zero_jax.cli import main
from zero_jax.support.files import packed
from zero_jax.tasks import images, prepare


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    def refuse(name, *_):
        raise AssertionError(f"{name} was to be prepared")

    monkeypatch.setattr(prepare, "prepared", refuse)
    images._load.cache_clear()


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv(images.CACHE, str(tmp_path / "cache"))
    return tmp_path / "cache" / "images"


def content(**change):
    rng = np.random.default_rng(0)
    pixels = rng.integers(255, size=(200, 2, 2, 3), dtype=np.uint8)
    labels = np.arange(200, dtype=np.int32) % 10
    names = list("abcdefghij")
    usual = {"train_images": pixels, "train_labels": labels, "test_images": pixels[:0], "test_labels": labels[:0]}
    return usual | {"class_names": names} | change


def keep(cache, data):
    path = cache / "mine" / "1.0.0-10.npz"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    images._load.cache_clear()
    return path


def test_a_file_as_it_should_be(cache):
    keep(cache, packed(content()))
    assert images.load("mine").train_images.shape == (200, 2, 2, 3)


LABELS = np.arange(200, dtype=np.int32) % 10


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"train_images": np.full((200, 2, 2, 3), "7")}, "train_images are not"),
        ({"train_images": np.zeros((200, 2, 2, 3))}, "train_images are not"),
        ({"train_images": np.zeros(200, np.uint8)}, "train_images are not"),
        ({"train_images": [1, 2]}, "train_images are not"),
        ({"test_images": np.zeros((0, 3, 3, 3), np.uint8)}, "test_images are not"),
        ({"train_labels": LABELS[:9]}, "train_labels are not a whole number for each image"),
        ({"train_labels": LABELS + 0.5}, "train_labels are not a whole number"),
        ({"train_labels": LABELS + 1}, "train_labels go up to 10, but there are 10 class_names"),
        ({"train_images": np.zeros((0, 2, 2, 3), np.uint8), "train_labels": LABELS[:0]}, "no training images"),
        ({"class_names": [1]}, "class_names must be strings"),
        ({"class_names": 3}, "not iterable"),
        ({"more": 3}, "more"),
    ],
)
def test_what_is_in_a_file_is_checked(change, message, cache):
    path = keep(cache, packed(content(**change)))
    with pytest.raises(ValueError, match=f"{re.escape(str(path))} is truncated or damaged .*{message}.*: delete it"):
        images.load("mine")


def test_flipped_bytes_give_a_message(cache):
    data = packed(content())
    for place in range(0, len(data), 997):
        flipped = bytearray(data)
        flipped[place] ^= 1
        keep(cache, bytes(flipped))
        with pytest.raises(ValueError, match=r"is truncated or damaged .*digest.*: delete it"):
            images.load("mine")


@pytest.mark.parametrize("made", ["pickle", "npy", "objects"])
def test_files_of_other_kinds(made, cache):
    file = io.BytesIO()
    if made == "objects":
        np.savez(file, tree=np.array([{}]))
    else:
        np.save(file, np.array([{}]) if made == "pickle" else np.zeros(3))
    keep(cache, b"\x80\x04N." if made == "pickle" else file.getvalue())
    with pytest.raises(ValueError, match="truncated or damaged") as caught:
        images.load("mine")
    assert "pickle" not in str(caught.value)


def test_a_folder_in_place_of_a_file(cache):
    (cache / "mine" / "1.0.0-10.npz").mkdir(parents=True)
    with pytest.raises(ValueError, match=r"1.0.0-10.npz is truncated or damaged .*directory.*delete it"):
        images.load("mine")


@pytest.mark.parametrize("where", ["/proc", "file"])
def test_a_cache_that_cannot_be_written_is_named_with_its_variable(where, tmp_path, monkeypatch, capsys):
    (tmp_path / "file").write_text("")
    given = str(tmp_path / where)  # an absolute `where` stays what it is
    monkeypatch.setenv(images.CACHE, given)
    assert main(["evaluate", "linear", "--task", "mnist"]) == 2
    error = capsys.readouterr().err
    assert f"sets of images cannot be kept in {given}/images" in error
    assert f"ZERO_JAX_CACHE is {given}: set it to another folder" in error


def test_a_cache_in_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv(images.CACHE, "~/sets")
    assert images.folder() == tmp_path / "sets" / "images"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--features", "-4"], "features must be at least 1, or 0 for all that an example has, not -4"),
        (["--features", "5000"], "3072 dimensions can be projected to 1 to 3072, not 5000"),
        (["--classes", "10", "--features", "4"], "10 classes need at least as many features"),
        (["--classes", "11"], "cifar10 has 10 classes, not 11"),
        (["--train", "0"], "train and valid must be at least 2, an example of each class, not 0"),
        (["--train", "9000"], "cannot take 9000 to train, 1000 to validate"),
        (["--tasks", "0"], "tasks must be at least 1"),
        (["--epochs", "0"], "epochs must be at least 1"),
        (["--executor", "gpu"], "executor must be one of"),
    ],
)
@pytest.mark.parametrize("source", ["cifar10", "tfds:cifar10"])
def test_what_a_set_cannot_serve_is_refused_before_it_is_prepared(source, options, message, cache, capsys):
    sizes = [] if source == "cifar10" or "--train" in options else ["--train", "50", "--valid", "20"]
    valid = ["--valid", "1000"] if "--train" in options else []
    assert main(["evaluate", "network", "--task", source, *sizes, *valid, *options]) == 2
    assert message in capsys.readouterr().err
    assert not cache.exists()
