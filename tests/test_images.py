"""Sets of images: prepared by tensorflow-datasets, without TensorFlow and without network, kept, and made into tasks."""

import functools
import gzip
import http.server
import importlib.util
import io
import re
import sys
import tarfile
import threading
import zipfile
from unittest import mock

import numpy as np
import pytest
import tensorflow_datasets as tfds

from zero_jax.cli import main
from zero_jax.tasks import arrays, images, prepare
from zero_jax.tasks.sets import TaskSet

N = 60
"""Training images of a class."""


def example(number, label, shape=(8, 8, 3)):
    """An image that says which it is: its class in the first row, its number in the last two pixels of the last."""
    image = np.random.default_rng(number).integers(100, size=shape, dtype=np.uint8)
    image[0] = 20 * label
    image[-1, -2:, 0] = number // 256, number % 256
    return image


IMAGE, LABEL = tfds.features.Image(shape=(8, 8, 3)), tfds.features.ClassLabel(names=list("abcdefghij"))


class ZeroJaxImages(tfds.core.GeneratorBasedBuilder):
    """Ten classes; tensorflow-datasets stores them in an order of its own."""

    VERSION = tfds.core.Version("1.2.3")
    parts = (("train", 10 * N), ("test", 20))

    def features(self):
        return {"image": IMAGE, "label": LABEL}

    def _info(self):
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(self.features()))

    def _split_generators(self, dl_manager):
        return {name: self._generate_examples(n) for name, n in self.parts}

    def _generate_examples(self, n):
        channels = self.info.features["image"].shape[-1]
        for i in range(n):
            yield i, {"image": example(i, i % 10)[..., :channels], "label": i % 10}


class ZeroJaxNoTrain(ZeroJaxImages):
    parts = (("test", 20),)


class ZeroJaxGrey(ZeroJaxImages):
    parts = (("train", 30), ("validation", 10))

    def features(self):
        return {"image": tfds.features.Image(shape=(8, 8, 1)), "label": LABEL}


class ZeroJaxNoLabels(ZeroJaxImages):
    def features(self):
        return {"image": IMAGE}


class ZeroJaxNoImages(ZeroJaxImages):
    def features(self):
        return {"text": tfds.features.Text(), "label": LABEL}


class ZeroJaxAnyShape(ZeroJaxImages):
    def features(self):
        return {"image": tfds.features.Image(), "label": LABEL}


class ZeroJaxSixteenBits(ZeroJaxImages):
    def features(self):
        return {"image": tfds.features.Image(shape=(8, 8, 1), dtype=np.uint16), "label": LABEL}


@pytest.fixture(autouse=True)
def folders(tmp_path, monkeypatch):
    """Nothing is looked for, or left, in the user's folders."""
    monkeypatch.setenv(images.CACHE, str(tmp_path / "cache"))
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "tfds"))
    images._load.cache_clear()


def test_a_set_is_prepared_once_and_kept(tmp_path, capsys):
    made = images.load("zero_jax_images")
    assert made.name == "zero_jax_images:1.2.3"
    assert (made.train_images.shape, made.train_images.dtype) == ((10 * N, 8, 8, 3), np.uint8)
    assert made.test_images.shape == (20, 8, 8, 3)
    assert made.class_names == tuple("abcdefghij")
    assert (np.bincount(made.train_labels) == N).all()
    numbers = made.train_images[:, -1, -2:, 0] @ [256, 1]
    assert sorted(numbers) == list(range(10 * N))
    for n, image, label in zip(numbers, made.train_images, made.train_labels, strict=True):
        np.testing.assert_array_equal(image, example(n, label))
    assert "tensorflow" not in sys.modules or importlib.util.find_spec("tensorflow")
    assert capsys.readouterr().out == ""
    images._load.cache_clear()
    with mock.patch.object(prepare, "prepared", side_effect=AssertionError("prepared again")):
        for name in ("zero_jax_images", "zero_jax_images:1.2.3"):
            again = images.load(name)
            np.testing.assert_array_equal(again.train_images, made.train_images)
            assert again.class_names == made.class_names
    kept = {str(path.relative_to(tmp_path / "cache")) for path in (tmp_path / "cache").rglob("*")}
    assert kept == {"images", "images/.lock", "images/zero_jax_images", "images/zero_jax_images/1.2.3-10.npz"}
    assert (tmp_path / "tfds" / "zero_jax_images" / "1.2.3").is_dir()


def test_a_copied_file_is_all_that_a_set_takes(tmp_path):
    """Neither tensorflow-datasets nor leave to write is needed; of several versions the newest is taken."""
    images.load("zero_jax_images")
    kept = tmp_path / "cache" / "images" / "zero_jax_images"
    elsewhere = tmp_path / "cache" / "images" / "never_heard_of"
    elsewhere.mkdir()
    for version in ("1.9.0", "1.10.0"):
        (elsewhere / f"{version}-10.npz").write_bytes((kept / "1.2.3-10.npz").read_bytes())
    elsewhere.chmod(0o555)
    with mock.patch.dict(sys.modules, {"tensorflow_datasets": None}):
        assert images.load("never_heard_of").name == "never_heard_of:1.10.0"
        assert images.load("never_heard_of:1.9.0").name == "never_heard_of:1.9.0"
    elsewhere.chmod(0o755)
    with pytest.raises(ValueError, match="read-only"):
        images.load("never_heard_of").train_images[0] = 0


@pytest.fixture
def server(tmp_path):
    """A folder, and the address at which it can be downloaded from."""
    (tmp_path / "www").mkdir()

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    handler = functools.partial(Handler, directory=tmp_path / "www")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as one:
        thread = threading.Thread(target=one.serve_forever, args=(0.01,))
        thread.start()
        yield tmp_path / "www", f"http://127.0.0.1:{one.server_address[1]}/"
        one.shutdown()
        thread.join()


def offer_cifar10(folder, url, patch):
    def rows(count):
        return b"".join(
            bytes([i % 10]) + example(i, i % 10, (32, 32, 3)).transpose(2, 0, 1).tobytes() for i in range(count)
        )

    files = {f"data_batch_{i}.bin": rows(20 if i == 1 else 0) for i in range(1, 6)}
    files |= {"test_batch.bin": rows(10), "batches.meta.txt": b"\n".join(f"class {c}".encode() for c in range(10))}
    with tarfile.open(folder / "cifar-10-binary.tar.gz", "w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    builder = tfds.image_classification.Cifar10
    info = builder._cifar_info.fget(mock.Mock())._replace(name="cifar10", url=f"{url}cifar-10-binary.tar.gz")
    patch.setattr(builder, "_cifar_info", info)
    return (32, 32, 3), "class 3"


def offer_mnist(folder, url, patch):
    module = sys.modules[tfds.image_classification.MNIST.__module__]
    for part, count in (("train", 20), ("t10k", 10)):
        pixels = b"".join(example(i, i % 10, (28, 28, 1)).tobytes() for i in range(count))
        (folder / f"{part}-images-idx3-ubyte.gz").write_bytes(gzip.compress(bytes(16) + pixels))
        (folder / f"{part}-labels-idx1-ubyte.gz").write_bytes(
            gzip.compress(bytes(8) + bytes(i % 10 for i in range(count)))
        )
    patch.setattr(module, "_TRAIN_EXAMPLES", 20)
    patch.setattr(module, "_TEST_EXAMPLES", 10)
    patch.setattr(module.MNIST, "URL", url)
    return (28, 28, 1), "3"


def offer_svhn_cropped(folder, url, patch):
    from scipy.io import savemat

    for part, count in (("train", 20), ("test", 10), ("extra", 1)):
        pixels = np.stack([example(i, i % 10, (32, 32, 3)) for i in range(count)], -1)
        savemat(folder / f"{part}_32x32.mat", {"X": pixels, "y": [[i % 10 or 10] for i in range(count)]})
    patch.setattr(sys.modules[tfds.builder_cls("svhn_cropped").__module__], "URL", url)
    return (32, 32, 3), "3"


def offer_imagenet_resized(folder, url, patch):
    for part, count in (("train", 24), ("val", 10)):
        pixels = np.stack([example(i, i % 12, (32, 32, 3)).transpose(2, 0, 1).ravel() for i in range(count)])
        np.savez(folder / "one.npz", data=pixels, labels=np.arange(count) % 12 + 1)
        with zipfile.ZipFile(folder / f"Imagenet32_{part}_npz.zip", "w") as archive:
            archive.write(folder / "one.npz", f"{part}.npz")
    patch.setattr(sys.modules[tfds.builder_cls("imagenet_resized").__module__], "_URL_PREFIX", url.rstrip("/"))
    return (32, 32, 3), "n02096294"


@pytest.mark.parametrize(
    ("name", "offer"),
    [
        ("cifar10", offer_cifar10),
        ("mnist", offer_mnist),
        ("svhn_cropped", offer_svhn_cropped),
        ("imagenet_resized/32x32", offer_imagenet_resized),
    ],
)
def test_the_sets_of_the_paper_are_downloaded_and_prepared_without_tensorflow(name, offer, server, monkeypatch):
    """By their own builders, from files of their own formats, in small."""
    shape, third = offer(*server, monkeypatch)
    made = images.load(name)
    assert (made.train_images.shape, made.test_images.shape) == ((20, *shape), (10, *shape))
    assert (made.class_names[3], len(made.class_names)) == (third, 10)
    numbers = [int(i) for i in made.train_images[:, -1, -1, 0]]
    kept = [i for i in range(24) if i % 12 < 10] if "imagenet" in name else range(20)
    assert sorted(numbers) == sorted(kept)
    for n, image, label in zip(numbers, made.train_images, made.train_labels, strict=True):
        np.testing.assert_array_equal(image, example(n, label, shape))


def test_tensorflow_datasets_own_mock_data():
    with tfds.testing.mock_data(num_examples=40):
        made = images.load("mnist")
    assert made.train_images.shape == (40, 28, 28, 1)
    assert made.test_images.shape == (0, 28, 28, 1)
    assert made.train_images.std() > 10
    assert set(made.train_labels) <= set(range(10))


def test_sets_without_a_test_split_colours_or_few_classes():
    made = images.load("zero_jax_grey", classes=4)
    assert (made.train_images.shape, made.test_images.shape) == ((12, 8, 8, 1), (4, 8, 8, 1))
    assert (set(made.train_labels), made.class_names) == ({0, 1, 2, 3}, ("a", "b", "c", "d"))
    assert images.load("zero_jax_grey").train_images.shape == (30, 8, 8, 1)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("no_such_set", r"tensorflow-datasets [\d.]+ has no set 'no_such_set': Dataset no_such_set not found"),
        ("mnist:9.9.9", "has no set 'mnist:9.9.9'"),
        ("imagenet_resized/3x3", "has no set 'imagenet_resized/3x3'"),
        ("../mnist", "called like cifar10, imagenet_resized/32x32 or cifar10:3.0.2, not '../mnist'"),
        ("", "called like cifar10"),
        ("zero_jax_no_labels", "lacks feature label; its features are image"),
        ("downsampled_imagenet", "lacks feature label; its features are image"),
        ("zero_jax_no_images", "lacks feature image; its features are .*text"),
        ("zero_jax_any_shape", r"images of zero_jax_any_shape vary in shape \(\? x \? x 3\)"),
        ("zero_jax_sixteen_bits", "are of uint16, not uint8"),
        ("zero_jax_no_train", "zero_jax_no_train has no split train; its splits are test"),
    ],
)
def test_sets_that_cannot_serve_are_refused(name, message, capsys, tmp_path):
    with pytest.raises(ValueError, match=message):
        images.load(name)
    assert main(["evaluate", "linear", "--task", f"tfds:{name}"]) == 2
    out, error = capsys.readouterr()
    assert out == ""
    assert error.startswith("zero-jax: ")
    assert len(error.splitlines()) == 1
    assert {path.name for path in (tmp_path / "cache").rglob("*")} <= {"images", ".lock"}


def test_without_network_it_says_what_to_do_elsewhere(tmp_path, capsys, monkeypatch):
    module = sys.modules[tfds.image_classification.MNIST.__module__]
    monkeypatch.setattr(module.MNIST, "URL", "http://127.0.0.1:1/")
    assert main(["evaluate", "linear", "--task", "mnist"]) == 2
    (error,) = capsys.readouterr().err.splitlines()
    assert not list((tmp_path / "tfds").rglob("*.tmp.*"))
    assert "mnist could not be downloaded and prepared: no connection to http://127.0.0.1:1/" in error
    assert "i.load('mnist')" in error
    assert f"copy mnist from the folder that it prints to {tmp_path}/cache/images." in error
    assert (
        f"tfds build mnist --file_format=array_record, and copy ~/tensorflow_datasets/mnist to {tmp_path}/tfds" in error
    )


def test_without_array_records_it_says_where_there_are_any(monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "array_record" else find(name))
    with pytest.raises(
        ValueError, match="without the package array_record, which pip has for Linux and for macOS on ARM"
    ):
        images.load("mnist")


@pytest.mark.parametrize(
    "damage", [lambda data: data[: len(data) // 2], lambda data: b"", lambda data: data[:-9000] + bytes(9000)]
)
def test_a_damaged_file_is_named(damage, tmp_path):
    images.load("zero_jax_images")
    path = tmp_path / "cache" / "images" / "zero_jax_images" / "1.2.3-10.npz"
    path.write_bytes(damage(path.read_bytes()))
    images._load.cache_clear()
    with pytest.raises(ValueError, match=f"{path} is truncated or damaged .* delete it to have the set prepared again"):
        images.load("zero_jax_images")
    path.unlink()
    assert len(images.load("zero_jax_images").train_images) == 10 * N


def test_records_that_cannot_be_read_are_named(tmp_path):
    images.load("zero_jax_images")
    next((tmp_path / "tfds" / "zero_jax_images" / "1.2.3").glob("*train*")).write_bytes(b"no records")
    next((tmp_path / "cache").rglob("*.npz")).unlink()
    images._load.cache_clear()
    with pytest.raises(ValueError, match=r"zero_jax_images is in .*, but cannot be read .* TFDS_DATA_DIR"):
        images.load("zero_jax_images")


def test_a_set_that_lies_there_in_another_format_is_named(tmp_path):
    folder = tmp_path / "tfds" / "zero_jax_images" / "1.2.3"
    images.load("zero_jax_images")
    for path in folder.glob("*array_record*"):
        path.rename(folder / path.name.replace("array_record", "tfrecord"))
    info = folder / "dataset_info.json"
    info.write_text(info.read_text().replace("array_record", "tfrecord"))
    next((tmp_path / "cache").rglob("*.npz")).unlink()
    images._load.cache_clear()
    with pytest.raises(ValueError, match=r"cannot be read \(.*TFRECORD is not supported.*TFDS_DATA_DIR"):
        images.load("zero_jax_images")


SIZES = {"train": 60, "valid": 30, "features": 16}


def test_pairs_of_classes_become_tasks():
    described = TaskSet("tfds:zero_jax_images", tasks=12, **SIZES)
    search, select, unseen = (described.make(1, role) for role in ("search", "select", "unseen"))
    assert search.train_x.shape == (12, 60, 16)
    assert search.valid_x.shape == (12, 30, 16)
    np.testing.assert_array_equal(select.train_x, unseen.train_x)
    assert not np.array_equal(select.valid_x, unseen.valid_x)
    assert len({*search.ids, *select.ids, *unseen.ids}) == 36
    loaded = images.load("zero_jax_images")
    sizes = {"features": 16, "train": 60, "valid": 30, "test": 30, "projections": (0, 1)}
    by_hand = arrays.projected_binary(
        loaded.train_images, loaded.train_labels, arrays.class_pairs(select=True)[:3], **sizes
    )
    np.testing.assert_array_equal(select.train_x[:3], by_hand.train_x[::2])
    np.testing.assert_array_equal(select.train_x[9:], by_hand.train_x[1::2])
    np.testing.assert_array_equal(select.train_y[9:], by_hand.train_y[1::2])


def test_the_full_dimension():
    described = TaskSet("tfds:zero_jax_images", tasks=2, **SIZES | {"features": 0})
    assert described.make().features == 8 * 8 * 3
    assert TaskSet("digits", tasks=1, features=0, train=100, valid=40).make().features == 64
    with pytest.raises(ValueError, match="features must be at least 1, not 0"):
        TaskSet("linear", features=0).make()


def test_classes_are_distinguished_by_what_images_show():
    """The first row is as bright as the class: a line finds it, and labels are those of their images."""
    described = TaskSet("tfds:zero_jax_images", tasks=9, **SIZES | {"features": 0})
    tasks = described.make(0, "select")
    for pair, x, y in zip(arrays.class_pairs(select=True), tasks.train_x, tasks.train_y, strict=True):
        brighter = x[:, :24].mean(1) > 0
        assert (brighter == (y == (pair[1] > pair[0]))).all()


@pytest.mark.parametrize("source", ["tfds:zero_jax_images", "digits"])
def test_ten_classes_at_once(source):
    described = TaskSet(source, tasks=4, classes=10, **SIZES)
    search, select, unseen = (described.make(1, role) for role in ("search", "select", "unseen"))
    assert repr(search) == "Tasks(4 tasks, 60 + 30 examples, 16 features, accuracy of 10 classes, epochs=1)"
    assert all(set(y) == set(range(10)) for y in (*search.train_y, *search.valid_y))
    np.testing.assert_array_equal(select.train_x, unseen.train_x)
    assert not np.array_equal(select.valid_x, unseen.valid_x)
    assert not np.array_equal(search.train_x, described.make(2).train_x)
    assert len({*search.ids, *select.ids, *unseen.ids}) == 12
    pairs = TaskSet(source, tasks=4, **SIZES).make(1)
    assert not {*pairs.ids} & {*search.ids}
    assert TaskSet(source, tasks=1, classes=3, **SIZES).make().classes == 3
    everything = TaskSet(source, tasks=100, classes=3, **SIZES | {"train": 5, "valid": 4}).make()
    assert len({*everything.ids}) == 100


def test_ten_digits_can_be_learned_at_once(capsys):
    options = ["--task", "digits", "--classes", "10", "--tasks", "2", "--train", "1000", "--valid", "200"]
    assert main(["evaluate", "softmax_linear", *options]) == 0
    out = capsys.readouterr().out
    assert "2 tasks, 1000 + 200 examples, 16 features, accuracy of 10 classes" in out
    assert float(re.search(r"mean accuracy ([\d.]+)", out)[1]) > 0.7


def test_labels_are_places_in_the_list_of_classes():
    rng = np.random.default_rng(0)
    labels = rng.permutation(np.repeat([2, 5, 7], 40))
    x = np.stack([labels, *rng.normal(size=(3, 120))], -1)
    tasks = arrays.projected_classes(x, labels, [7, 2, 5], features=None, train=60, valid=30)
    means = [tasks.train_x[0, tasks.train_y[0] == i, 0].mean() for i in range(3)]
    assert means[1] < means[2] < means[0]
    assert {*tasks.valid_y[0]} == {0, 1, 2}
    assert (np.bincount(tasks.train_y[0].astype(int)) == 20).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"train": 90},
            "smallest pair of classes of tfds:zero_jax_images has 120 examples; cannot take 90 to train, 30 to",
        ),
        ({"classes": 10, "train": 600}, "the 10 classes have 600 examples; cannot take 600 to train"),
        ({"classes": 10, "valid": 9}, "train and valid must be at least 10, an example of each class, not 60 and 9"),
        ({"classes": 10, "features": 9}, "10 classes need at least as many features"),
        ({"classes": 12, "features": 16}, "tfds:zero_jax_images has 10 classes, not 12"),
        ({"classes": 1}, "two or more classes, not 1"),
        ({"features": 193}, "192 dimensions can be projected to 1 to 192, not 193"),
        ({"features": -1}, "not -1"),
        ({"tasks": 0}, "tasks must be at least 1"),
        ({"source": "linear", "classes": 3}, "linear tasks have no classes: leave classes out, not 3"),
        ({"source": "cifar11"}, "unknown tasks 'cifar11'; expected one of .*svhn_cropped.*tfds:NAME"),
    ],
)
def test_numbers_that_a_set_cannot_serve(change, message, capsys):
    given = {"source": "tfds:zero_jax_images", "tasks": 3, **SIZES} | change
    with pytest.raises(ValueError, match=message):
        TaskSet(**given).make()
    options = [f"--{'task' if name == 'source' else name}={value}" for name, value in given.items()]
    assert main(["evaluate", "linear", *options]) == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith("zero-jax: ")


def test_class_ids_that_do_not_exist():
    loaded = images.load("zero_jax_images")
    examples = loaded.train_images, loaded.train_labels
    with pytest.raises(ValueError, match="there is no class 10; the classes are 0, 1"):
        arrays.projected_binary(*examples, [(3, 10)], train=60, valid=20)
    with pytest.raises(ValueError, match="there is no class -1"):
        arrays.projected_classes(*examples, [0, 1, -1], train=60, valid=20)
    with pytest.raises(ValueError, match="two or more different ones, not \\[0, 0, 1\\]"):
        arrays.projected_classes(*examples, [0, 0, 1], train=60, valid=20)


def test_the_command_line_trains_and_searches_on_images(tmp_path, capsys):
    sizes = ["--train", "60", "--valid", "30", "--features", "16"]
    assert main(["evaluate", "network", "--task", "tfds:zero_jax_images", "--tasks", "9", *sizes]) == 0
    assert "9 tasks, 60 + 30 examples, 16 features" in capsys.readouterr().out
    roles = [
        f"--{role}-tasks.{name}={value}"
        for role in ("search", "select", "unseen")
        for name, value in {"source": "tfds:zero_jax_images", "tasks": 3, "train": 60, "valid": 30}.items()
    ]
    budget = ["--train-steps", "50000", "--out", str(tmp_path / "runs")]
    assert main(["search", "empty", *roles, *budget]) == 0
    assert "T_select (3 tasks)" in capsys.readouterr().out
    assert main(["search", "empty", *roles, *budget, "--search-tasks.classes", "10"]) == 2
    assert "same labels, not 10 classes (search_tasks), 2 classes (select_tasks)" in capsys.readouterr().err
