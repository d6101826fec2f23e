"""NPZ files of tasks: arrays, headers and the archive around them, mutated."""

import io
import warnings
import zipfile

import numpy as np
import pytest

from tests.fuzz.fuzzing import NUMBERS, TEXTS, VALUES, mutated_bytes, refusals
from zero_jax.tasks import sets

_RNG = np.random.default_rng(0)
X, Y = _RNG.normal(size=(2, 8, 3)), _RNG.integers(0, 2, (2, 8))

WHOLE = [
    {"train_x": X, "train_y": X[..., 0], "valid_x": X[:, :4], "valid_y": X[:, :4, 1], "loss": "rmse"},
    {"train_x": X.astype(np.float32), "train_y": Y, "valid_x": X, "valid_y": Y, "loss": "accuracy", "epochs": 3},
    {"train_x": X, "train_y": Y + 1, "valid_x": X, "valid_y": Y, "loss": "accuracy", "classes": 3, "epochs": 2},
    {"train_x": Y[..., None] * [1, 2, 3], "train_y": Y, "valid_x": X > 0, "valid_y": Y.astype(bool)},
]

DTYPES = ["f2", "f4", "f8", ">f8", "i1", "u8", "?", "c16", "U3", "S3", "O", "m8[s]", "M8[D]", "V8", "f4,i4"]


def members_of(arrays):
    """The archive's members by name, as bytes."""
    return {f"{name}.npy": npy(value) for name, value in arrays.items()}


def npy(value):
    file = io.BytesIO()
    np.lib.format.write_array(file, np.asanyarray(value), allow_pickle=True)
    return file.getvalue()


def zipped(members, **how):
    file = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(file, "w", **how) as archive:
        warnings.simplefilter("ignore")  # a name that stands twice
        for name, data in members:
            archive.writestr(zipfile.ZipInfo(name), data, how.get("compression"))
    return file.getvalue()


def changed_array(rng, array):
    array, way = np.array(array), rng.randrange(9)
    if array.dtype.kind not in "biuf":
        array = X
    if way == 0:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return array.astype(rng.choice(DTYPES))
    if way == 1:
        return array[..., None] if rng.randrange(2) else array[None]
    if way == 2 and array.ndim:
        axis = rng.randrange(array.ndim)
        return np.take(array, rng.choice([[], [0], [0, 0, 1], [-1]]), axis)
    if way == 3:
        return np.asfortranarray(array.swapaxes(0, -1) if array.ndim else array)
    if way == 4:
        return array.ravel()[: rng.randint(0, array.size)]
    if way == 5 and array.size:
        wild = array.astype(float)
        wild.flat[rng.randrange(array.size)] = rng.choice([np.nan, np.inf, -np.inf, 1e39, 1e-45, -1.0, 0.5, 2.0, 1e300])
        return wild
    if way == 6:
        return np.array(rng.choice(VALUES), dtype=rng.choice([None, object]))
    if way == 7:
        return rng.choice([np.array(None), np.zeros(()), np.zeros((0, 0, 0)), np.zeros((1,) * 20), np.array({"a": 1})])
    return array * rng.choice([0, -1, 2, 1000])


def changed_arrays(rng, arrays):
    arrays, name = dict(arrays), rng.choice([*arrays, "loss", "epochs", "classes"])
    way = rng.randrange(8)
    if way == 0:
        arrays.pop(name, None)
    elif way == 1:
        arrays[rng.choice(["other", "train_x.npy", "../x", "", "TRAIN_X", "\x1b[31m", "x" * 300])] = X
    elif way == 2:
        arrays[name] = rng.choice(list(arrays.values()))
    elif way == 3:
        arrays["loss"] = rng.choice(["rmse", "accuracy", "RMSE", b"rmse", ["rmse"], *TEXTS])
    elif way == 4:
        arrays[rng.choice(["epochs", "classes"])] = rng.choice(
            [0, -1, 1, 2, 3, 4, 2.0, 2.5, np.nan, np.inf, True, 2**31, 2**63 - 1, 2**63, 1e300, "2", [2], None, 2j]
        )
    else:
        arrays[name] = changed_array(rng, arrays.get(name, 2))
    return arrays


def changed_members(rng, members):
    """The archive with a header that lies, or its members in another way."""
    members, way = list(members.items()), rng.randrange(5)
    at = rng.randrange(len(members))
    name, data = members[at]
    if way == 0:
        size = int.from_bytes(data[8:10], "little")
        header = data[10 : 10 + size].decode("latin1")
        old = rng.choice(["'<f8'", "False", "(2, 8, 3)", "(2, 8)", "2", "8", "descr", "{", "shape", ",", "\n"])
        new = rng.choice(
            [
                *NUMBERS[:12],
                "'|O'",
                "'<f4'",
                "True",
                "(2**62, 4)",
                "(-1, 8)",
                "(2, 8, 3, 0)",
                "()",
                "None",
                "[" * 200,
                "9" * 5000,
                "x()",
            ]
        )
        header = header.replace(old, new, rng.choice([1, -1]))
        members[at] = (
            name,
            data[:8] + len(header).to_bytes(2, "little") + header.encode("latin1", "ignore") + data[10 + size :],
        )
    elif way == 1:
        members[at] = name, mutated_bytes(rng, data, [other for _, other in members])
    elif way == 2:
        members.insert(rng.randint(0, len(members)), (rng.choice([name, "epochs.npy", "x/y.npy", "a"]), data))
    elif way == 3:
        members[at] = rng.choice(["train_x", "train_y.npy", "loss", name.upper(), "\x1b[2J.npy"]), data
    else:
        rng.shuffle(members)
    return members


def made(rng):
    """An archive, and the arrays that are in it if it was made by flipping a bit."""
    arrays = rng.choice(WHOLE)
    how = {"compression": rng.choice([zipfile.ZIP_STORED, zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA])}
    way = rng.randrange(4)
    if way == 0:
        for _ in range(rng.choice([1, 1, 2])):
            arrays = changed_arrays(rng, arrays)
        return zipped(members_of(arrays).items(), **how), None
    if way == 1:
        return zipped(changed_members(rng, members_of(arrays)), **how), None
    whole = zipped(members_of(arrays).items(), **how)
    if way == 2:
        bit = rng.randrange(8 * len(whole))
        flipped = bytearray(whole)
        flipped[bit // 8] ^= 1 << bit % 8
        return flipped, arrays
    return mutated_bytes(rng, whole, [zipped(members_of(other).items()) for other in WHOLE]), None


@pytest.mark.slow
def test_files_are_tasks_or_refused(fuzz, tmp_path):
    file = tmp_path / "mine.npz"

    def attempt(rng):
        data, arrays = made(rng)
        file.write_bytes(data)
        with refusals(), warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*mine.npz has no loss, so its labels")
            tasks = sets.load(file)
        assert_sound(tasks)
        if arrays:
            assert_holds(tasks, arrays)

    fuzz("NPZ files", 2500, attempt)


def assert_sound(tasks):
    shapes = []
    for name in ("train_x", "train_y", "valid_x", "valid_y"):
        array = getattr(tasks, name)
        assert array.dtype == np.float32
        assert np.isfinite(array).all()
        assert array.size
        shapes.append(array.shape)
    assert shapes[0][:2] == shapes[1]
    assert shapes[2][:2] == shapes[3]
    assert (shapes[0][0], shapes[0][2]) == (shapes[2][0], shapes[2][2])
    if tasks.loss == "accuracy":
        assert np.isin(tasks.train_y, np.arange(tasks.classes)).all()
    else:
        assert tasks.loss == "rmse"
    assert np.array_equal(np.sort(tasks.order, axis=1), np.tile(np.arange(shapes[0][1]), (tasks.epochs, 1)))


def assert_holds(tasks, arrays):
    """No bit flipped in silence."""
    for name in ("train_x", "train_y", "valid_x", "valid_y"):
        np.testing.assert_array_equal(getattr(tasks, name), np.asarray(arrays[name]).astype(np.float32))
    assert (tasks.loss, tasks.epochs) == (arrays.get("loss", "rmse"), arrays.get("epochs", 1))
    assert tasks.classes == (arrays.get("classes", 2) if tasks.loss == "accuracy" else 0)
