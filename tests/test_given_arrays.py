"""Arrays that users give: tables of pandas, objects, missing values, and NPZ files that lie."""

import io
import zipfile
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest

from tests.spaces import SMALL
from zero_jax import RandomSearch, Scores, Tasks
from zero_jax.tasks import arrays
from zero_jax.tasks.sets import load

ROWS, COLUMNS = 6, 3
PLAIN = pd.DataFrame(np.arange(ROWS * COLUMNS).reshape(ROWS, COLUMNS) % 5, columns=list("abc"))
LABELS = pd.Series([0, 1] * 3)


def made(x, y):
    return Tasks([x], [y], [x], [y], "accuracy")


NULLABLE = [("Int64", "Int64"), ("Float64", "boolean"), ("UInt8", "Int8"), (object, object), ("float32", "bool")]


@pytest.mark.parametrize(("features", "labels"), NULLABLE)
def test_nullable_columns_without_missing_values_are_taken(features, labels):
    x, y = PLAIN.astype(features), LABELS.astype(labels)
    mixed = x.assign(a=PLAIN["a"].astype("Int32"), b=PLAIN["b"].astype("float64"))
    for table in (x, mixed, x.to_numpy()):
        tasks = made(table, y)
        np.testing.assert_array_equal(tasks.train_x[0], PLAIN)
        np.testing.assert_array_equal(tasks.train_y[0], LABELS)
        projected = arrays.projected_binary(table, y, [(0, 1)], features=None, train=4, valid=2)
        assert projected.train_x.shape == (1, 4, 3)


@pytest.mark.parametrize("missing", [pd.NA, None, pd.NaT, np.ma.masked])
def test_a_missing_value_is_named_with_its_place(missing):
    if missing is np.ma.masked:
        x = np.ma.array(PLAIN.to_numpy(), mask=False)
        x[4, 1] = missing
        whole = x[None]
    else:
        x = PLAIN.astype(object)
        x.iloc[4, 1] = missing
        whole = [x]
    y = LABELS.to_numpy()[None]
    with pytest.raises(ValueError, match=r"train_x\[0, 4, 1\] is missing \(.*\): fill it in, or leave that example"):
        Tasks(whole, y, whole, y)
    with pytest.raises(ValueError, match=r"x\[4, 1\] is missing"):
        arrays.projected_binary(x, y[0], [(0, 1)], train=4, valid=2)


def test_missing_labels_and_fitnesses_are_named_too():
    for kind in ("Int64", "Float64", "boolean"):
        labels = LABELS.astype(kind)
        labels[3] = pd.NA
        with pytest.raises(ValueError, match=r"train_y\[0, 3\] is (missing|nan)"):
            made(PLAIN, labels)
        with pytest.raises(ValueError, match=r"labels\[3\] is missing|there is no"):
            arrays.projected_binary(PLAIN, labels, [(0, 7)], train=4, valid=2)
    search = RandomSearch(SMALL, 2)
    state, candidates = search.ask(search.init(0))
    with pytest.raises(ValueError, match=r"fitness\[1\] is missing \(None\)"):
        search.tell(state, candidates, Scores.of([0.5, None]))
    assert search.tell(state, candidates, Scores.of(pd.Series([0.5, 1], dtype="Float64"))).best_fitness == 1


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("7", "is '7'"),
        (b"7", "is b'7'"),
        (1j, "is 1j"),
        (10**400, "beyond float32"),
        ([1], "is .*1"),
        ("x" * 500, "xxx"),
    ],
    ids=["text", "bytes", "complex", "huge", "list", "long"],
)
def test_objects_that_are_no_numbers_are_named(value, message):
    x = PLAIN.astype(object).to_numpy(copy=True)
    x[2, 0] = value
    with pytest.raises(ValueError, match=message) as refused:
        made(x, LABELS)
    assert str(refused.value).startswith("train_x")
    assert len(str(refused.value)) < 200
    x[2, 0] = Decimal("7.5")
    assert made(x, LABELS).train_x[0, 2, 0] == 7.5


# ---------------------------------------------------------------------------------------------- NPZ files


X = np.random.default_rng(0).normal(size=(2, 5, 3))
Y = np.random.default_rng(1).normal(size=(2, 5))


def file_of(tmp_path, **members):
    """An NPZ file; members may be bytes, as they are to stand in it."""
    path = tmp_path / "mine.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, member in ({"train_x": X, "train_y": Y, "valid_x": X, "valid_y": Y} | members).items():
            if not isinstance(member, bytes):
                stream = io.BytesIO()
                np.lib.format.write_array(stream, np.asanyarray(member))
                member = stream.getvalue()
            file.writestr(f"{name}.npy", member)
    return path


def header(shape, dtype="<f8", data=b""):
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": dtype, "fortran_order": False, "shape": shape})
    return stream.getvalue() + data


@pytest.mark.parametrize("dtype", [">f8", "<f4", ">f4", "<f2", "g", ">i8", "i1", "u2", "?"])
def test_every_type_and_order_of_numbers_loads(tmp_path, dtype):
    values = np.asfortranarray((10 * X).astype(dtype))
    assert load(file_of(tmp_path, train_x=values)).train_x.tolist() == (10 * X).astype(dtype).astype("f4").tolist()
    whole = np.full((2, 5, 3), 2**62)
    assert load(file_of(tmp_path, train_x=whole)).train_x.max() == 2.0**62


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"train_x": header((2**40, 5, 3))}, "train_x is damaged: .* would take 131,941,395,333,120 bytes, not 0"),
        ({"train_x": header((10**30, 10**30))}, "train_x is damaged"),
        ({"train_x": header((2, 5, 4), data=X.tobytes())}, r"\(2, 5, 4\) float64 would take 320 bytes, not 240"),
        ({"train_x": header((2, 5, 2), data=X.tobytes())}, "would take 160 bytes, not 240"),
        ({"train_x": header((-2, -5, 3), data=b"x" * 240)}, "damaged"),
        ({"train_x": header((2, 0, 3)), "train_y": header((2, 0))}, "is empty"),
        ({"train_x": header((2,), "|O", b"x" * 16)}, "an array of Python objects"),
        ({"train_x": np.array("7")}, "not an array of numbers"),
        ({"train_x": np.float64(7)}, "must be .tasks, examples, features., but has shape"),
        ({"train_x": X + 1j}, "an array of complex128, not of numbers"),
        ({"train_x": np.full((2, 5, 3), "7")}, "not an array of numbers"),
        ({"train_x": np.zeros((2, 5, 3), "M8[s]")}, "an array of datetime64"),
        ({"train_x": np.zeros((2, 5, 3), [("a", "f4")])}, "not of numbers"),
        ({"train_x": np.where(X > 1, np.nan, X)}, r"train_x\[.*\] is nan"),
        ({"train_y": Y * 1e300}, r"train_y\[.*\] is -?inf"),
        ({"train_x": b""}, "cannot be read"),
        ({"train_x": b"\x93NUMPY\x09\x00"}, "cannot be read"),
        ({"train_x": X[:1]}, "have incompatible shapes"),
        ({"epochs": 2**31 - 1}, "epochs must be from 1 to 1,000,000, not 2147483647"),
        ({"epochs": True}, "epochs must be"),
        ({"epochs": 1.0}, "epochs must be a whole number"),
        ({"loss": "x" * 10**6}, "loss must be one of"),
        ({"loss": ["accuracy"]}, "loss must be one of"),
        ({"x" * 10**4: X}, "all that it may have is"),
    ],
)
def test_files_that_lie_are_refused_in_one_line(tmp_path, members, message):
    with pytest.raises(ValueError, match=message) as refused:
        load(file_of(tmp_path, **members))
    assert "mine.npz" in str(refused.value)
    assert len(str(refused.value)) < 400 + len(str(tmp_path))


def test_no_more_is_unpacked_than_is_allowed(tmp_path, monkeypatch):
    monkeypatch.setattr("zero_jax.tasks.npz.MAX_BYTES", 2**20)
    bomb = header((2**18,), data=bytes(2**21))  # some kilobytes in the file
    path = file_of(tmp_path, train_x=bomb)
    assert path.stat().st_size < 10_000
    with pytest.raises(ValueError, match=r"mine.npz has arrays of 0.0 GiB; 0 GiB are allowed"):
        load(path)


def test_a_flipped_bit_and_an_array_that_stands_twice_are_refused(tmp_path):
    path = tmp_path / "mine.npz"
    np.savez(path, train_x=X, train_y=Y, valid_x=X, valid_y=Y)
    sound = path.read_bytes()
    at = sound.index(X.tobytes()[:64])
    path.write_bytes(sound[: at + 7] + bytes([sound[at + 7] ^ 1]) + sound[at + 8 :])
    with pytest.raises(ValueError, match="cannot be read"):
        load(path)
    path.write_bytes(sound)
    with zipfile.ZipFile(path, "a") as file, pytest.warns(UserWarning, match="Duplicate name"):
        file.writestr("train_x.npy", header((2, 5, 3), data=X.tobytes()))
    with pytest.raises(ValueError, match="an array twice"):
        load(path)


def test_labels_that_look_like_classes_are_noted_unless_the_file_says(tmp_path):
    classes = {"train_y": Y > 0, "valid_y": np.int8(Y > 0)}
    with pytest.warns(UserWarning, match=r'mine.npz has no loss, .* add loss="accuracy" to the file') as noted:
        assert load(file_of(tmp_path, **classes)).loss == "rmse"
    assert len(noted) == 1
    assert load(file_of(tmp_path, **classes, loss="rmse")).loss == "rmse"
    assert load(file_of(tmp_path, **classes, loss="accuracy")).loss == "accuracy"
    assert load(file_of(tmp_path)).loss == "rmse"
