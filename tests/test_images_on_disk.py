"""`images:PATH`: IDX, NPZ, folders of pictures and Parquet give the same tasks; what cannot be one set is refused."""

import gzip
import io
import struct

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from zero_jax.cli import main
from zero_jax.tasks import images
from zero_jax.tasks.image_files import read, read_idx
from zero_jax.tasks.sets import TaskSet, usual

N, M, CLASSES = 90, 12, 3
RNG = np.random.default_rng(0)
LABELS = {"train": np.arange(N) % CLASSES, "test": np.arange(M) % CLASSES}
PIXELS = {
    part: np.clip(RNG.integers(0, 60, (len(y), 5, 4)) + 60 * y[:, None, None], 0, 255).astype(np.uint8)
    for part, y in LABELS.items()
}


def idx(array):
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.astype(np.uint8).tobytes()


def write_idx(folder, packed=False):
    folder.mkdir()
    for part, name in (("train", "train"), ("test", "t10k")):
        for what, array in (("images-idx3", PIXELS[part]), ("labels-idx1", LABELS[part])):
            data = idx(array)
            path = folder / f"{name}-{what}-ubyte{'.gz' * packed}"
            path.write_bytes(gzip.compress(data) if packed else data)
    return folder


def write_npz(path, names=("train_images", "train_labels", "test_images", "test_labels")):
    np.savez(path, **dict(zip(names, (PIXELS["train"], LABELS["train"], PIXELS["test"], LABELS["test"]), strict=True)))
    return path


def write_pictures(folder, parts=("train", "test"), suffix=".png"):
    for part in parts:
        for number, (pixels, label) in enumerate(zip(PIXELS[part], LABELS[part], strict=True)):
            at = folder / (part if len(parts) > 1 else "") / "abc"[label]
            at.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(at / f"{number:03}{suffix}")
    return folder


def png(pixels):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def write_parquet(folder, labels=lambda y: y):
    pytest.importorskip("pyarrow")
    folder.mkdir()
    for part in ("train", "test"):
        rows = {"image": [{"bytes": png(p), "path": ""} for p in PIXELS[part]], "label": labels(LABELS[part])}
        pd.DataFrame(rows).to_parquet(folder / f"{part}-00000-of-00001.parquet")
    return folder


def by_class(found, part):
    """Images sorted by class, each class in its order: a folder has no other."""
    x, y = getattr(found, f"{part}_images"), getattr(found, f"{part}_labels")
    return x[np.argsort(y, kind="stable")]


KERAS = ("x_train", "y_train", "x_test", "y_test")
WRITERS = {
    "IDX": lambda p: write_idx(p / "set"),
    "IDX, compressed": lambda p: write_idx(p / "set", packed=True),
    "NPZ": lambda p: write_npz(p / "set.npz"),
    "NPZ, Keras": lambda p: write_npz(p / "set.npz", KERAS),
    "pictures": lambda p: write_pictures(p / "set"),
    "Parquet": lambda p: write_parquet(p / "set"),
    "Parquet, names": lambda p: write_parquet(p / "set", lambda y: np.array(list("abc"))[y]),
}


@pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)
def test_every_format_has_the_same_images(write, tmp_path):
    found = read(write(tmp_path))
    for part in ("train", "test"):
        want = PIXELS[part][np.argsort(LABELS[part], kind="stable")][..., None]
        np.testing.assert_array_equal(by_class(found, part), want)
        assert np.bincount(getattr(found, f"{part}_labels")).tolist() == [len(want) // 3] * 3
    assert found.class_names in (("0", "1", "2"), ("a", "b", "c"))


def test_a_folder_of_pictures_needs_no_test_images_and_colours_win(tmp_path):
    folder = write_pictures(tmp_path / "set", ["train"], ".bmp")
    assert read(folder).test_images.shape == (0, 5, 4, 1)
    Image.fromarray(np.zeros((5, 4, 3), np.uint8)).save(folder / "a" / "999.jpg")
    assert read(folder).train_images.shape == (N + 1, 5, 4, 3)


def test_tasks_are_the_same_wherever_the_files_are(tmp_path):
    one, other = write_idx(tmp_path / "one"), write_idx(tmp_path / "other", packed=True)
    made = [TaskSet(f"images:{path}", 2, 3, 40, 5).make(1) for path in (one, other)]
    assert made[0].digest() == made[1].digest()
    np.testing.assert_array_equal(made[0].ids, made[1].ids)
    assert made[0].classes == 2
    assert TaskSet(f"images:{one}", 2, 0, 40, 5, classes=3).make(1).train_x.shape == (2, 40, 20)


def test_pairs_of_a_few_classes_are_kept_apart(tmp_path):
    source = f"images:{write_idx(tmp_path / 'set')}"
    select = TaskSet(source, 4, 3, 40, 5).make(0, "select")
    assert len(select) == 4
    sets = [
        {tuple(np.unique(task.ravel().round(5)).tolist()) for task in np.asarray(tasks.train_x)}
        for tasks in (select, TaskSet(source, 40, 3, 40, 5).make(0, "search"))
    ]
    assert not sets[0] & sets[1]


def test_the_usual_sizes_fit(tmp_path):
    described = usual(f"images:{write_idx(tmp_path / 'set')}")
    assert (described.tasks, described.train, described.valid) == (45, 48, 6)
    assert len(TaskSet(described.source, 3, 4, 48, 6).make(0, "unseen")) == 3


def test_a_program_is_evaluated_on_them(tmp_path, capsys, monkeypatch):
    write_idx(tmp_path / "set")
    monkeypatch.chdir(tmp_path)
    assert main(["evaluate", "linear", "--task", "images:set", "--tasks", "3", "--features", "4"]) == 0
    assert "3 tasks" in capsys.readouterr().out


def test_debians_fashion_mnist_comes_before_a_download(tmp_path, monkeypatch):
    monkeypatch.setenv(images.CACHE, str(tmp_path / "cache"))
    names = tuple("abc")
    monkeypatch.setattr(images, "PACKAGED", {"fashion_mnist": (write_idx(tmp_path / "set"), names)})
    loaded = images.load("fashion_mnist")
    np.testing.assert_array_equal(loaded.train_images[..., 0], PIXELS["train"])
    assert loaded.class_names == names
    assert images.load("fashion_mnist", 2).test_labels.max() == 1


# ---------------------------------------------------------------------------------------------- bad input


def damaged(folder, name, change):
    path = next(folder.glob(name))
    path.write_bytes(change(path.read_bytes()))


def without(folder, name):
    next(folder.glob(name)).unlink()


def other_picture(folder):
    Image.fromarray(np.zeros((7, 4), np.uint8)).save(folder / "train" / "b" / "000.png")


BAD = [
    ("IDX", lambda p: damaged(p, "train-images*", lambda b: b[:-3]), r"promise 1,800 numbers, it has 1,797"),
    ("IDX", lambda p: damaged(p, "train-images*", lambda b: b + b"x"), r"promise 1,800 numbers, it has more"),
    ("IDX", lambda p: damaged(p, "train-images*", lambda b: b"\0\0\x0d\x03" + b[4:]), "not an IDX file of unsigned"),
    ("IDX", lambda p: damaged(p, "train-images*", lambda b: b[:4] + b"\xff" * 12), "holds .* bytes, more than"),
    ("IDX", lambda p: damaged(p, "train-images*", lambda b: b""), "damaged or no IDX file"),
    ("IDX, compressed", lambda p: damaged(p, "train-images*", lambda b: b[:200]), "damaged"),
    ("IDX, compressed", lambda p: damaged(p, "train-images*", lambda b: b[:99] + b"zzzz" + b[103:]), "damaged"),
    ("IDX", lambda p: without(p, "train-labels*"), "no file with the train labels"),
    (
        "IDX",
        lambda p: damaged(p, "train-labels*", lambda b: idx(LABELS["test"])),
        "90 train images, but labels of shape",
    ),
    (
        "IDX",
        lambda p: damaged(p, "t10k-images*", lambda b: idx(np.zeros((M, 4, 4)))),
        "training images are 5 x 4 x 1, test",
    ),
    ("NPZ", lambda p: np.savez(p, other=np.zeros(3)), "no train_images and train_labels.*it has 'other'"),
    ("NPZ", lambda p: p.write_bytes(b"PK nonsense"), "no NPZ file"),
    (
        "NPZ",
        lambda p: np.savez(p, x_train=PIXELS["train"] / 255, y_train=LABELS["train"]),
        "0 to 255 .uint8., not float64",
    ),
    ("NPZ", lambda p: np.savez(p, x_train=PIXELS["train"], y_train=LABELS["train"] - 1), "whole numbers, 0 or more"),
    ("pictures", other_picture, r"000.png is 4 x 7 pixels, .* 4 x 5: tasks need images of one size"),
    ("pictures", lambda p: (p / "train" / "a" / "000.png").write_bytes(b"no"), "000.png is no picture, or damaged"),
    (
        "Parquet",
        lambda p: pd.DataFrame({"x": [1]}).to_parquet(p / "train-00000-of-00001.parquet"),
        "no column image.*'x'",
    ),
    ("Parquet", lambda p: (p / "train-00000-of-00001.parquet").write_bytes(b"no"), "no Parquet file, or damaged"),
]


@pytest.mark.parametrize(("kind", "spoil", "says"), BAD, ids=range(len(BAD)))
def test_what_is_wrong_is_one_line(kind, spoil, says, tmp_path, capsys):
    path = WRITERS[kind](tmp_path)
    spoil(path)
    with pytest.raises(ValueError, match=says):
        read(path)
    assert main(["evaluate", "linear", "--task", f"images:{path}"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "Traceback" not in error


def test_what_is_no_set_at_all_says_what_would_be(tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    (tmp_path / "a.txt").write_text("a")
    for name, says in (("empty", "is no set of images"), ("a.txt", "is no set of images"), ("absent", "there is no")):
        with pytest.raises(ValueError, match=rf"{says}.*IDX.*pictures.*\.npz.*\.parquet"):
            read(tmp_path / name)


def test_classes_that_are_not_there_are_refused(tmp_path):
    source = f"images:{write_idx(tmp_path / 'set')}"
    with pytest.raises(ValueError, match="has 3 classes, not 4"):
        TaskSet(source, 2, 4, 40, 5, classes=4).make()
    np.savez(tmp_path / "one.npz", train_images=PIXELS["train"], train_labels=np.zeros(N, int))
    with pytest.raises(ValueError, match="has 1 class, not 2"):
        TaskSet(f"images:{tmp_path / 'one.npz'}", 2, 4, 40, 5).make()


def test_an_idx_file_of_one_axis_or_four_is_read(tmp_path):
    for shape in ((7,), (2, 3, 2, 3)):
        array = np.arange(np.prod(shape)).reshape(shape)
        (tmp_path / "x").write_bytes(idx(array))
        np.testing.assert_array_equal(read_idx(tmp_path / "x"), array)


def test_unseen_tasks_are_judged_on_the_sets_own_test_images(tmp_path):
    described = TaskSet(f"images:{write_idx(tmp_path / 'set')}", 2, 0, 40, 5)
    unseen, test = described.make(0, "unseen"), described.on_test_images()
    np.testing.assert_array_equal(unseen.train_x, test.train_x)
    assert test.valid_x.shape == (2, 2 * M // CLASSES, 20)
    assert set(np.bincount(np.asarray(test.valid_y[0]).astype(int))) == {M // CLASSES}
    for source in ("linear", "digits"):
        with pytest.raises(ValueError, match=f"{source} has no test images"):
            TaskSet(source, 2, 4, 40, 5).on_test_images()
