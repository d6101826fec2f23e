"""The experiments on searches and on the paper's programs run, and their programs are what they are said to be."""

import difflib
import importlib
import json
from pathlib import Path

import numpy as np
import pytest

from zero_jax import Programs, evaluate, execute, library
from zero_jax.program.programs import concatenate
from zero_jax.tasks import arrays

EXPERIMENTS = Path(__file__).parent.parent / "experiments"


@pytest.fixture(scope="module")
def experiment():
    """An experiment's module by name, imported as its script finds its neighbours."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(EXPERIMENTS))
        yield importlib.import_module


@pytest.fixture(scope="module")
def paper_programs(experiment):
    return experiment("paper_programs")


@pytest.mark.slow
def test_search_baselines_tells_every_cell_of_its_table(experiment, tmp_path, capsys):
    search_baselines = experiment("search_baselines")
    to = tmp_path / "out.json"
    tiny = ["--seeds", "0", "1", "--steps", "10000", "--processes", "1", "2", "3", "--at-a-time", "1", "--out"]
    search_baselines.main([*tiny, str(to)])
    stored = json.loads(to.read_text())["results"]
    cells = [(row["method"], row["processes"]) for row in stored["table"]]
    methods = ("random search", "Basic", "Full")
    assert cells == [(m, n) for m in methods for n in (1, 2, 3)] + [
        ("linear, by hand", None),
        ("network, by hand", None),
    ]
    for run in stored["runs"]:
        assert run["train_steps"] >= 10_000 * run["processes"] or run["method"] == "Full"
        assert 0 <= run["select"] <= 1
        assert 0 <= run["unseen"] <= 1
    assert len(stored["as_in_the_paper"]) == 13
    assert "<svg" in to.with_suffix(".svg").read_text()
    assert "Full on 3 over Basic on 3" in capsys.readouterr().out


@pytest.mark.parametrize("size", ["small", "paper"])
def test_the_space_of_the_search_baselines_is_the_papers(experiment, size):
    search_baselines = experiment("search_baselines")
    for method, migrating in (("Basic", 0), ("Full", 1000)):
        config = search_baselines.experiment(search_baselines.SIZES[size], method, 10, 0, 10)
        space = config.searcher.space
        assert (space.memory, space.max_size, space.initial_size) == ((5, 9, 2), (7, 11, 23), (1, 1, 1))
        assert [set(ops) for ops in space.ops] == [
            {56, 62, 59, 63, 60, 64, 61},
            {1, 31, 48, 27, 23},
            {1, 2, 3, 18, 23, 16, 25, 28, 39},
        ]
        assert (config.searcher.population, config.searcher.tournament, config.tasks.search.features) == (100, 10, 16)
        assert (config.evaluation.train_budget, config.schedule.migrate_every) == (2.0, migrating)
        assert (config.searcher.initial, config.searcher.islands) == ("no_op", 10)
        assert config.searcher.mutations.types == (
            "alter_param",
            "randomize_component",
            "insert_instruction",
            "remove_instruction",
        )
    if size == "paper":
        search, select = config.tasks.search, config.tasks.select
        assert (search.source, search.train, select.valid) == ("cifar10", 8000, 1000)


@pytest.mark.slow
def test_paper_programs_tunes_and_judges_every_program(paper_programs, tmp_path, capsys):
    to = tmp_path / "out.json"
    tiny = ["--seeds", "0", "1", "--evaluations", "2", "--at-a-time", "1", "--only", "digits, F = 16", "teacher, F = 8"]
    paper_programs.main([*tiny, "--out", str(to)])
    rows = json.loads(to.read_text())["results"]["table"]
    assert [row["program"] for row in rows] == [*paper_programs.ALL, "linear", "network"]
    assert all(np.isfinite(row["held_out"]).all() for row in rows)
    assert [row["over_base"] for row in rows if row["program"] == row["base"]] == [[0, 0]] * 2
    assert "<svg" in to.with_suffix(".svg").read_text()
    assert "weights not averaged" in capsys.readouterr().out


CHANGES = {
    "S1b": "- s3 = 1.0; - s7 = s3 * s7",
    "no noise": "- v9 = uniform(0.002, 0.7, n_features)",
    "its mean in place of the noise": "+ s6 = 0.351; + v9 = bcast(s6); - v9 = uniform(0.002, 0.7, n_features)",
    "noise of mean 0": "- v9 = uniform(0.002, 0.7, n_features); + v9 = gaussian(0.0, 0.2015, n_features)",
    "linear, not bilinear": "+ s6 = 1.0; + v1 = bcast(s6); - v1 = v0 - v9",
    "gradients not normalised": "- s7 = s5 / s2; - s7 = s3 * s7; + s7 = s3 * s5",
    "weights not averaged": "- m1 = s2 * m2; - m2 = m2 + m0",
    "no sine": "- s5 = sin(s4); - s7 = s5 / s2; + s7 = s4 / s2",
    "a constant in place of std(W)": "- s4 = std(m0); + s4 = 1.0",
}


@pytest.mark.parametrize("name", CHANGES)
def test_an_ablation_differs_where_it_should_and_in_nothing_else(paper_programs, name):
    texts = paper_programs.programs()
    reference, other = (Programs.parse(texts[n]).listing(0).split("\n") for n in (paper_programs.REFERENCE, name))
    lines = [line for line in difflib.ndiff(reference, other) if line[0] in "+-"]
    assert "; ".join(" ".join(line.split()) for line in lines) == CHANGES[name]


def test_every_ablation_is_one_of_those_checked_here(paper_programs):
    assert list(CHANGES) == ["S1b", *paper_programs.ABLATIONS]
    assert library.program("cifar10").listing(0) == paper_programs.LISTED


def test_a_change_of_a_line_that_is_not_there_is_refused(paper_programs):
    with pytest.raises(AssertionError, match="s9 = 1"):
        paper_programs.changed(paper_programs.LISTED, {"  s9 = 1": ""})


@pytest.mark.slow
def test_every_program_learns_digits(paper_programs):
    tasks = arrays.digits(arrays.class_pairs(select=True), features=16)
    for name, text in paper_programs.programs().items():
        fitness = evaluate(Programs.parse(text), tasks).fitness
        assert np.isfinite(fitness).all(), name
        assert fitness.mean() > 0.8, name


WHAT_IT_DOES = {
    "S1b": {},
    "S1b with a rate": {},
    "no noise": {"noise": None},
    "its mean in place of the noise": {"noise": 0.351},
    "noise of mean 0": {"noise": "drawn"},
    "linear, not bilinear": {"product": False},
    "gradients not normalised": {"normalise": False},
    "weights not averaged": {"average": False},
    "no sine": {"sine": False},
    "a constant in place of std(W)": {"scale": False},
}


TRAIN, VALID = 3, 2


@pytest.fixture(scope="module")
def examples():
    """Features of all examples `[n, F]`, and the labels of those to train on."""
    rng = np.random.default_rng(0)
    return rng.normal(size=(TRAIN + VALID, 4)), rng.integers(2, size=TRAIN)


@pytest.fixture(scope="module")
def stepped(paper_programs, examples):
    """The logit of every example, and v9 after every Learn, of each program, by one component at a time."""
    x, y = examples
    texts = paper_programs.programs()
    size = {"memory": (8, 12, 3), "capacity": (4, 5, 13)}
    programs = concatenate([Programs.parse(texts[name], **size) for name in WHAT_IT_DOES])
    features = x.shape[1]
    shapes = ((8,), (12, features), (3, features, features))
    zero = [np.zeros((len(programs), 1, *shape)) for shape in shapes]
    memory = execute(programs, zero, "setup", "simd")
    logits, drawn = [], []
    for i in range(len(x)):
        memory = execute(programs, with_example(memory, x[i], 0.0), "predict", "simd")
        logits.append(np.array(memory.scalars[:, 0, 1]))
        if i < TRAIN:
            memory = with_example(memory, x[i], y[i])
            memory[0][:, 0, 1] = 1 / (1 + np.exp(-logits[-1]))
            memory = execute(programs, memory, "learn", "simd", seed=i)
            drawn.append(np.array(memory.vectors[:, 0, 9]))
    each = zip(np.stack(logits, 1), np.stack(drawn, 1), strict=True)
    return dict(zip(WHAT_IT_DOES, each, strict=True))


def with_example(memory, x, label):
    """The memory with an example's features and label in it."""
    scalars, vectors, matrices = (np.array(part) for part in memory)
    scalars[..., 0], vectors[..., 0, :] = label, x
    return scalars, vectors, matrices


@pytest.mark.slow
@pytest.mark.parametrize("name", WHAT_IT_DOES)
def test_a_program_does_what_is_said_of_it(stepped, examples, name):
    """Against the algorithm as the experiment's first lines tell it, written down anew in NumPy."""
    logits, drawn = stepped[name]
    how = WHAT_IT_DOES[name]
    if "noise" not in how:
        assert (drawn > 0.002).all()
        assert (drawn < 0.7).all()
        assert len(np.unique(drawn)) == drawn.size
    np.testing.assert_allclose(logits, described(*examples, drawn, **how), rtol=2e-4, atol=1e-6)


def described(x, y, drawn, noise="drawn", product=True, normalise=True, average=True, sine=True, scale=True):
    """The logit of every example, those of training first."""
    features = x.shape[1]
    weights, total, used = (np.zeros((features, features)) for _ in range(3))
    u = np.full(features, 0.351) if noise == 0.351 else np.zeros(features)
    logits = []
    for i in range(len(x)):
        a, b = x[i] - u if product else np.ones(features), x[i] + u
        logits.append(a @ used @ b)
        if i < TRAIN:
            error = y[i] - 1 / (1 + np.exp(-logits[-1]))
            length = np.linalg.norm(a) * np.linalg.norm(x[i])
            step = (np.sin(error) if sine else error) / (length if normalise else 1)
            weights = weights + step * np.outer(a, b)
            total = total + weights
            used = (weights.std() if scale else 1) * weights
            u = drawn[i] if noise == "drawn" else u
        elif average:
            used = length * total  # of the last training example
    return logits
