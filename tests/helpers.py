"""What several test modules share: a small run, a small search, and how they are read and compared."""

import json
import unicodedata

import numpy as np

from tests.spaces import DEMO
from zero_jax import Programs, RegularizedEvolution, Scores, cli, library, random_programs
from zero_jax.evaluation.cost import cost
from zero_jax.program.canonical import pruned
from zero_jax.run.presets import PRESETS
from zero_jax.search.operators.lineage import chain
from zero_jax.tasks.sets import TaskSet

# ---------------------------------------------------------------------------------------------- runs

SMALL_SET = TaskSet("linear", tasks=3, features=4, train=30, valid=10)
QUICK = PRESETS["demo"][1].replace(
    search_tasks=SMALL_SET,
    select_tasks=SMALL_SET,
    unseen_tasks=SMALL_SET,
    population=60,
    cohort=30,
    train_steps=40_000,
    trials=2,
    out=None,
)
ONE = QUICK.replace(parallel_trials=1, trials=1, probe=0, train_steps=60_000, sufficient_fitness=2.0)

QUICK_COMMAND = [
    "search", "demo", "--population", "60", "--cohort", "30", "--train-steps", "40000", "--trials", "1",
    "--search-tasks.train", "30", "--search-tasks.tasks", "3", "--select-tasks.tasks", "3", "--unseen-tasks.tasks", "3",
]  # fmt: skip


def call(*arguments):
    """Exit code of the command line, as a shell would see it."""
    try:
        return cli.main([str(a) for a in arguments])
    except SystemExit as end:
        return end.code


def records(folder):
    return [json.loads(line) for line in (folder / "records.jsonl").read_text().splitlines()]


def without_clock(lines):
    return [{k: v for k, v in line.items() if k != "seconds"} for line in lines]


def after(reports):
    """Interrupts a run at that report."""

    def interrupt(progress):
        nonlocal reports
        reports -= 1
        if not reports:
            raise KeyboardInterrupt

    return interrupt


def refuse(constant):
    raise AssertionError(f"{constant} is no JSON")


def read_json(folder, name="hall.json"):
    """A file of a run, which must be strict JSON."""
    return json.loads((folder / name).read_text(), parse_constant=refuse)


def is_safe(text):
    """Whether a terminal shows it as it is."""
    return all(c == "\n" or unicodedata.category(c)[0] != "C" for c in text)


# ---------------------------------------------------------------------------------------------- programs


def assert_equal(a, b):
    assert (a.capacity, a.memory) == (b.capacity, b.memory)
    for name in ("code", "data", "length"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name))


def same(a, b):
    return a.to_lists() == b.to_lists()


def program_of(row):
    return Programs.parse(json.dumps(row["program"]))


def costs_of(programs, examples=SMALL_SET.train):
    return cost(pruned(programs), examples) / cost(library.program("network"), examples)[0]


# ---------------------------------------------------------------------------------------------- a search without tasks

WANTED = np.resize(DEMO.ops[0], sum(DEMO.capacity))


def scores(programs):
    """A fitness that needs no device, and rises in many small steps."""
    return (programs.code[..., 0] == WANTED).sum(1) / 20 + programs.code[..., 3].sum(1) / 1000


def searching(islands=2, population=20, cohort=10, **more):
    return RegularizedEvolution(DEMO, islands, population, 3, cohort, **more)


def step(search, state, fitness=scores):
    """The state a cohort later, and what was asked for."""
    asked, candidates = search.ask(state)
    programs = candidates.programs
    return search.tell(asked, candidates, Scores.of(fitness(programs))), asked, programs


def evolved(search, steps, seed=0, fitness=scores):
    state = search.init(seed)
    for _ in range(steps):
        state, _, _ = step(search, state, fitness)
    return state


def bytes_of(programs, row=0):
    return programs.code[row].tobytes() + programs.data[row].tobytes() + programs.length[row].tobytes()


def plain_line(last):
    """A line of descent as plain values."""
    return [(one.fitness, one.evaluations, one.births, bytes_of(one.program)) for one in chain(last)]


# ---------------------------------------------------------------------------------------------- a hall of fame

SPACE = QUICK.searcher.space
LINEAR = library.load("linear", SPACE.memory).resized(SPACE.memory, SPACE.capacity)
RANDOM = random_programs(SPACE, 4, np.random.default_rng(0))


def one(program):
    return json.loads(program.to_json())


def row(program, fitness, cost, **rest):
    usual = {"trial": 1, "evaluations": 500, "select_fitness": None, "best": True, "pareto": False}
    sizes = {"instructions": int(pruned(program).length.sum()), "cost": cost, "search_fitness": fitness}
    return usual | sizes | {"program": one(program)} | rest


ROWS = [
    row(RANDOM[0], 0.4, 0.1, best=False, pareto=True, trial=2, evaluations=70),
    row(RANDOM[1], 0.9, 0.5),
    row(LINEAR, 0.999, 0.3, pareto=True, select_fitness=0.998),
    row(RANDOM[2], 0.9, 0.4, best=False),
]
STEPS = [
    {"evaluations": 60, "fitness": 0.3, "births": 0, "program": one(RANDOM[3])},
    {"evaluations": 900, "fitness": 0.6, "births": 2, "program": one(RANDOM[0])},
    {"evaluations": 4000, "fitness": 0.999, "births": 1, "program": one(LINEAR)},
]


def write_best(folder, rows=ROWS, steps=STEPS):
    (folder / "hall.json").write_text(hall(rows))
    (folder / "lineage.json").write_text(json.dumps({"schema": 3, "interface": None, "trial": 2, "steps": steps}))


def hall(rows, interface=None):
    return json.dumps({"schema": 3, "interface": interface, "rows": rows})
