"""Tasks: their checks, and where they come from."""

import itertools

import jax
import numpy as np
import pytest

from zero_jax import Tasks, evaluate, library
from zero_jax.tasks import arrays, synthetic
from zero_jax.tasks.sets import TaskSet, load

X, Y = np.zeros((2, 5, 3)), np.zeros((2, 5))


def test_the_order_of_examples():
    tasks = Tasks(X, Y, X, Y, epochs=4)
    assert tasks.order.shape == (4, 5)
    assert tasks.order[0].tolist() == [0, 1, 2, 3, 4]
    assert all(sorted(epoch) == [0, 1, 2, 3, 4] for epoch in tasks.order)
    assert len({tuple(epoch) for epoch in tasks.order}) > 2
    np.testing.assert_array_equal(tasks.order, Tasks(X, Y, X, Y, epochs=4).order)
    assert not np.array_equal(tasks.order, Tasks(X, Y, X, Y, epochs=4, seed=1).order)
    assert tasks.order.dtype == tasks.ids.dtype == np.int32
    assert tasks.train_x.dtype == tasks.train_y.dtype == np.float32


def test_it_is_a_pytree_that_keeps_ids_and_order():
    tasks = Tasks(X, Y, X, Y, ids=[7, 9], epochs=2)
    again = jax.tree.map(lambda a: a, tasks)
    assert (again.loss, again.ids.tolist(), len(again)) == ("rmse", [7, 9], 2)
    assert tasks[1:].ids.tolist() == tasks[1].ids.tolist() == tasks[-1].ids.tolist() == [9]
    with pytest.raises(IndexError):
        tasks[2]
    np.testing.assert_array_equal(tasks[1:].order, tasks.order)
    assert jax.jit(lambda t: t.train_x.sum())(tasks) == 0


@pytest.mark.parametrize(
    ("args", "kwargs", "message"),
    [
        ((X, Y[:, :4], X, Y), {}, r"train_x \(2, 5, 3\) and train_y \(2, 4\) have incompatible shapes"),
        ((X, Y, X[..., :2], Y), {}, "differ in tasks or features"),
        ((X, Y, X[:1], Y[:1]), {}, "differ in tasks or features"),
        ((X[0], Y, X, Y), {}, r"train_x must be \[tasks, examples, features\]"),
        ((X + np.nan, Y, X, Y), {}, r"train_x\[0, 0, 0\] is nan"),
        ((X, Y, X, Y + 1e300), {}, r"valid_y\[0, 0\] is inf"),
        ((X, Y + 2, X, Y), {"loss": "accuracy"}, r"train_y\[0, 0\] is 2.0: labels must be 0 or 1"),
        ((X, Y, X, Y - 1), {"loss": "accuracy"}, r"valid_y\[0, 0\] is -1.0"),
        ((X, Y, X, Y), {"loss": "mse"}, "loss must be one of rmse, accuracy, not 'mse'"),
        ((X, Y, X, Y), {"epochs": 0}, "epochs"),
        ((X, Y, X, Y), {"epochs": float("inf")}, "epochs"),
        ((X, Y, X, Y), {"epochs": None}, "epochs"),
        ((X + 1j, Y, X, Y), {}, "train_x is not an array of numbers"),
        ((None, Y, X, Y), {}, "train_x is not an array of numbers"),
        ((X, Y, X, Y), {"ids": [0.5, 1.5]}, "ids"),
        ((X, Y, X, Y), {"ids": [1]}, "ids"),
        ((X[:, :0], Y[:, :0], X, Y), {}, "empty"),
        (([["a"]], Y, X, Y), {}, "not an array of numbers"),
    ],
)
def test_bad_data_is_named(args, kwargs, message):
    with pytest.raises(ValueError, match=message):
        Tasks(*args, **kwargs)


@pytest.mark.parametrize("make", [synthetic.linear, synthetic.affine, synthetic.teacher])
def test_synthetic_tasks_are_seeded_and_distributed_as_upstreams(make):
    tasks = make(40, features=6, train=200, valid=50, seed=3)
    np.testing.assert_array_equal(tasks.train_x, make(40, features=6, train=200, valid=50, seed=3).train_x)
    assert not np.array_equal(tasks.train_x, make(40, features=6, train=200, valid=50, seed=4).train_x)
    assert (tasks.train_x.shape, tasks.valid_y.shape) == ((40, 200, 6), (40, 50))
    assert abs(tasks.train_x.mean()) < 0.02
    assert abs(tasks.train_x.std() - 1) < 0.02
    # Of N(0, 1) weights: E y^2 = F (+ 1 for the bias); the teacher's 4 live hidden units give F / 2 each.
    want = {"linear": 6, "affine": 7, "teacher": 4 * 6 / 2}[make.__name__]
    assert abs((tasks.train_y**2).mean() / want - 1) < 0.35


def test_linear_tasks_are_linear_and_affine_ones_are_affine():
    for make, constant in ((synthetic.linear, 0), (synthetic.affine, 1)):
        tasks = make(1, features=3, train=50)
        x = np.concatenate([tasks.train_x[0], np.full((50, constant), 1.0)], 1)
        _, residual, _, _ = np.linalg.lstsq(x, tasks.train_y[0], rcond=None)
        assert residual < 1e-8


def test_teacher_tasks_need_three_features():
    with pytest.raises(ValueError, match="at least 3 features, not 2"):
        synthetic.teacher(1, features=2)
    with pytest.raises(ValueError, match="at least 1"):
        synthetic.linear(0)


def test_projected_tasks_are_split_by_class_and_standardised():
    rng = np.random.default_rng(0)
    labels = rng.permutation(np.repeat([3, 5, 8], 100))
    images = rng.normal(5, 3, (300, 4, 4)) + labels[:, None, None]
    sizes = {"train": 100, "valid": 40, "test": 40}
    tasks = arrays.projected_binary(images, labels, [(3, 8), (5, 8)], features=6, projections=(0, 1), **sizes)
    assert (len(tasks), tasks.features, tasks.loss) == (4, 6, "accuracy")
    np.testing.assert_allclose(tasks.train_x.mean(1), 0, atol=1e-6)
    np.testing.assert_allclose(tasks.train_x.std(1), 1, atol=1e-5)
    assert (tasks.train_y.mean(1) == 0.5).all()
    assert (tasks.valid_y.mean(1) == 0.5).all()
    assert not np.array_equal(tasks.train_x[0], tasks.train_x[1])
    test = arrays.projected_binary(
        images, labels, [(3, 8), (5, 8)], features=6, projections=(0, 1), part="test", **sizes
    )
    np.testing.assert_array_equal(test.train_x, tasks.train_x)
    assert not np.array_equal(test.valid_x, tasks.valid_x)
    full = arrays.projected_binary(images, labels, [(3, 8)], features=None, **sizes)
    assert full.features == 16
    capped = {"train": 10, "valid": 10, "per_class": 12}
    assert len(arrays.projected_binary(images, labels, [(3, 8)], **capped)) == 1


def test_no_example_is_in_two_parts():
    n = 60
    images = np.arange(2.0 * n).reshape(2 * n, 1)
    labels = np.arange(2 * n) % 2
    sizes = {"features": None, "train": 60, "valid": 30, "test": 30}
    parts = [arrays.projected_binary(images, labels, [(0, 1)], part=part, **sizes) for part in ("valid", "test")]
    seen = [parts[0].train_x, parts[0].valid_x, parts[1].valid_x]
    assert len(np.unique(np.concatenate([s.ravel() for s in seen]).round(5))) == 120


def test_synthetic_images_are_of_cifars_shape_and_can_be_distinguished():
    sizes = {"train": 400, "valid": 100, "test": 100, "per_class": 300}
    tasks = arrays.synthetic_images([(0, 1), (8, 3)], projections=(0, 1), **sizes)
    assert tasks.train_x.shape == (4, 400, 16)
    whole = arrays.synthetic_images([(0, 1)], features=None, **sizes)
    assert whole.features == 32 * 32 * 3
    again = arrays.synthetic_images([(8, 3)], projections=(0, 1), **sizes)
    np.testing.assert_array_equal(tasks.train_x[2:], again.train_x)
    accuracy = np.asarray(evaluate(library.program("linear", learning_rate=0.01), tasks).fitness)
    assert (accuracy > 0.7).all()
    assert not (accuracy == 1).all()
    with pytest.raises(ValueError, match="classes of synthetic images are 0 to 9"):
        arrays.synthetic_images([(0, 10)], **sizes)


def test_digits_have_45_pairs_of_which_9_select():
    search, select = arrays.class_pairs(select=False), arrays.class_pairs(select=True)
    assert len(set(search) | set(select)) == 45
    assert (len(search), len(select)) == (36, 9)
    assert len(arrays.digits([*search, *select])) == 45


@pytest.mark.parametrize("size", [2, 3])
def test_groups_of_classes_for_the_search_are_those_without_a_pair_kept_for_selection(size):
    kept = set(arrays.class_pairs(select=True))
    search, select = (arrays.class_groups(part, size) for part in (False, True))
    for part, sides in ((search, True), (select, False)):
        between = [{(min(p), max(p)) for p in itertools.product(*both)} for both in part]
        assert all(len(pairs) == size * size and pairs.isdisjoint(kept) == sides for pairs in between)
    ways = {2: 45 * 28 // 2, 3: 120 * 35 // 2}[size]  # two groups of ten classes, in either order
    assert len(set(search) | set(select)) == len(search) + len(select) == ways


def test_classes_put_together_count_as_one():
    labels = np.arange(400) % 5
    tasks = arrays.projected_classes(
        np.eye(5)[labels], labels, [(0, 3), (1, 4)], features=None, train=200, valid=50, projections=(0,)
    )
    classes = tasks.train_x[0].argmax(1)
    assert set(classes) == {0, 1, 3, 4}
    np.testing.assert_array_equal(tasks.train_y[0], np.isin(classes, (1, 4)))


def test_tasks_between_groups_are_others_than_between_pairs():
    pairs, groups = (TaskSet("digits", 5, 16, 240, 50, classes_per_side=(size,)).make(3) for size in (1, 2))
    assert not set(pairs.ids) & set(groups.ids)
    assert groups.classes == 2
    network = library.program("network", learning_rate=0.1)
    easy, hard = (np.asarray(evaluate(network, tasks).fitness).mean() for tasks in (pairs, groups))
    assert 0.6 < hard < easy
    both = TaskSet("digits", 9, 16, 240, 50, classes_per_side=(1, 2)).make(3)
    assert both.ids[::2].tolist() == pairs.ids.tolist()
    assert both.ids[1::2].tolist() == groups.ids[:4].tolist()


@pytest.mark.parametrize(
    ("described", "message"),
    [
        ({"source": "digits", "classes_per_side": (1, 6)}, "classes_per_side must be 1 to 5 for digits, not 6"),
        ({"source": "digits", "classes_per_side": ()}, r"must be whole numbers, such as \(1, 3\), not \(\)"),
        ({"source": "digits", "classes_per_side": (0,)}, "classes_per_side must be at least 1, not 0"),
        (
            {"source": "digits", "classes_per_side": (5,)},
            "between any two groups of 5 of 10 classes lies a pair that is kept",
        ),
        ({"source": "linear", "classes_per_side": (2,)}, r"classes_per_side=\(2,\) is for tasks with two classes"),
        (
            {"source": "digits", "features": 16, "classes": 3, "classes_per_side": (2,)},
            r"classes_per_side=\(2,\) is for tasks with two classes",
        ),
        (
            {"source": "digits", "classes_per_side": (2,), "train": 700},
            "the smallest 4 classes of digits has 708 examples; cannot take 700 to train",
        ),
    ],
)
def test_groups_that_there_are_not_are_refused(described, message):
    with pytest.raises(ValueError, match=message):
        TaskSet(**{"tasks": 2, "features": 4, "train": 100, "valid": 20} | described).make()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"pairs": [(3, 11)]}, "there is no class 11; the classes are 0, 1"),
        ({"pairs": [(3, 3)]}, "two different classes"),
        ({"train": 5000}, "examples; cannot take"),
        ({"part": "dev"}, "part must be"),
        ({"pairs": []}, "no pairs"),
        ({"features": 65}, "64 dimensions can be projected to 1 to 64, not 65"),
        ({"features": 0}, "not 0"),
    ],
)
def test_impossible_classification_tasks_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        arrays.digits(**({"pairs": [(0, 1)]} | change))


def test_labels_that_do_not_fit_their_examples_are_refused():
    with pytest.raises(ValueError, match="have incompatible shapes"):
        arrays.projected_binary(np.zeros((5, 2)), np.zeros(4), [(0, 1)], train=2, valid=2)
    with pytest.raises(ValueError, match="finite"):
        arrays.projected_binary(np.full((5, 2), np.inf), np.zeros(5), [(0, 1)], train=2, valid=2)


def test_task_sets_make_what_they_say():
    described = TaskSet("digits", tasks=12, features=8, train=100, valid=40)
    search, select, unseen = (described.make(1, role) for role in ("search", "select", "unseen"))
    assert len(search) == len(select) == len(unseen) == 12
    np.testing.assert_array_equal(select.train_x, unseen.train_x)
    assert not np.array_equal(select.valid_x, unseen.valid_x)
    assert not np.array_equal(search.train_x, described.make(2, "search").train_x)
    np.testing.assert_array_equal(select.train_x, described.make(2, "select").train_x)
    with pytest.raises(
        ValueError, match="unknown tasks 'foo'; expected one of linear, affine, teacher, digits, synthetic_images"
    ):
        TaskSet("foo").make()


def test_task_sets_give_ids_that_tell_tasks_apart():
    sets = [TaskSet(source, tasks=30, train=20, valid=10) for source in ("linear", "affine", "digits")]
    made = [s.make(seed, role) for s in sets for seed in (0, 1) for role in ("search", "select")]
    ids = [tuple(t.ids.tolist()) for t in made]
    # Synthetic tasks depend on the seed alone, those of digits in selection on the role alone.
    assert len({i for t in ids for i in t}) == 2 * 30 + 2 * 30 + 2 * 30 + 30
    assert ids[0] == tuple(sets[0].make(0).ids.tolist())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"features": 16.5}, "features must be a whole number, not 16.5"),
        ({"train": 100.5}, "train must be a whole number"),
        ({"tasks": "3"}, "tasks must be a whole number, not '3'"),
        ({"classes": "10"}, "classes must be a whole number"),
        ({"source": None}, "source must be a text, not None"),
    ],
)
def test_task_sets_of_wrong_types_name_the_argument(change, message):
    with pytest.raises(ValueError, match=message):
        TaskSet(**{"source": "digits", **change})


def test_roles_that_are_none():
    with pytest.raises(ValueError, match="role must be one of search, select, unseen, not 'foo'"):
        TaskSet("linear").make(0, "foo")


def test_your_own_arrays_load_from_a_file(tmp_path):
    path = tmp_path / "mine.npz"
    np.savez(path, train_x=X, train_y=Y, valid_x=X, valid_y=Y, loss="accuracy", epochs=3)
    tasks = load(path)
    assert (tasks.loss, tasks.epochs, len(tasks)) == ("accuracy", 3, 2)
    for epochs in ([1, 2], "x", 2.5, 0):
        np.savez(path, train_x=X, train_y=Y, valid_x=X, valid_y=Y, epochs=epochs)
        with pytest.raises(ValueError, match=r"mine.npz: epochs must be"):
            load(path)
    np.savez(path, train_x=X, train_y=Y, valid_x=X, valid_y=Y, **{"class": 4})
    with pytest.raises(
        ValueError, match=r"mine.npz has class; all that it may have is train_x, .*, loss, epochs, classes"
    ):
        load(path)
    np.savez(path, train_x=X, train_y=Y)
    with pytest.raises(ValueError, match="has no array valid_x, valid_y"):
        load(path)
    path.write_text("no arrays")
    with pytest.raises(ValueError, match="not an NPZ file"):
        load(path)
    with pytest.raises(ValueError, match="no file"):
        TaskSet(str(tmp_path / "none.npz")).make()
