"""Evolution against random search as problems get harder: the paper's Fig. 4.

    python experiments/difficulty.py --small

Difficulty is how many random programs it takes on average to meet one that succeeds. A success is a program whose mean
fitness is above 0.9999 on T_search (3 tasks, F = 8, 1,000 + 100 examples) and above 0.999 on 10 tasks that the search has not
seen. Both searches are judged by successes per program considered, whether it had to be trained or not.

Evolution is the paper's (P = 1000, T = 10), 100 children at a time, in runs of a fixed number of evaluations, each from
random programs; a run ends at its first success. The islands of one call are runs of their own: nothing migrates.

Random programs are too many to train, so those that cannot succeed are not:

- Predict is not drawn: few of its forms can succeed (`Form`), since the prediction has to depend on features times weights,
  and on a bias where there is one. They differ by names and by the order of operands, which all else is drawn without regard
  to, so one stands for many, with their probability.
- A Learn cannot succeed that never reads label, prediction or features, or never writes what Predict reads, or has no
  product of a scalar and a vector, or no sum of vectors.
- `can_learn` asks besides that label, features and prediction matter to predictions more than three examples later. Three
  labels do not tell 8 weights. Without predictions in Learn, which has no dot product to make its own, weights are sums of
  c_i x_i where c_i depends on labels alone; their part at right angles to the true weights w is then noise of at least
  |w| sqrt((F - 1) / N) = 0.08 |w|, and fitness is near 0.9. (Where Predict leaves its dot product in another scalar, Learn can
  make its own prediction; there, programs that fail one condition are trained too.)

The paper's full affine space is too hard for minutes and is part of `--paper` alone. "linear, Setup given" is not in the
paper; it lies between its linear ones. Its random programs are those of "learn-only linear" behind another Predict, the same
draws, so the two difficulties are not independent. Runs of evolution are short since successes come early: in runs ten times as long
they are rarer per program in all three linear spaces (8 successes in 3.4e7 programs).

The estimate is checked by evaluating random programs of the easiest space without any of this (`unscreened`). Successes are
counted, so intervals are of a Poisson rate (95%, Jeffreys' prior), for the ratio of both.
"""

import dataclasses
import time
from collections.abc import Callable, Sequence
from functools import cache
from itertools import pairwise, product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import results
from matplotlib.figure import Figure

from zero_jax import (
    Component,
    Evaluator,
    Programs,
    RegularizedEvolution,
    SearchSpace,
    Tasks,
    program_fitness,
    random_programs,
)
from zero_jax.evaluation import KnownForms, Probe
from zero_jax.program.ops import INPUT_KINDS, OUTPUT_KINDS
from zero_jax.search.operators.validity import CONDITIONS, conditions
from zero_jax.tasks import synthetic

SUFFICIENT, HELD_OUT = 0.9999, 0.999
CHUNK = 500_000
POPULATION, TOURNAMENT, COHORT, ISLANDS = 1000, 10, 100, 8


class Form(NamedTuple):
    """Predicts that are equal up to names and the order of operands.

    Attributes:
      probability: that a random Predict is one of them.
      predict: one of them.
      reads: addresses that Learn has to read then, besides label and features.
      writes: addresses that it has to write.
    """

    probability: float
    predict: str
    reads: tuple[str, ...]
    writes: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Space:
    """A problem of Fig. 4.

    Attributes:
      name: what it is called.
      tasks: what makes its tasks.
      space: what is searched; components without ops are given.
      forms: the forms of Predict that can succeed.
      setup: the listing of Setup where it is given.
      paper: how much better than random search evolution was in the paper's plot, as read by a third party; None
        for a space that is not in it.
    """

    name: str
    tasks: Callable[..., Tasks]
    space: SearchSpace
    forms: tuple[Form, ...]
    setup: str
    paper: float | None


def sized(memory: Sequence[int], setup: tuple, predict: tuple, learn: tuple, sizes: tuple) -> SearchSpace:
    components = [Component(ops, (n, n, n)) for ops, n in zip((setup, predict, learn), sizes, strict=True)]
    return SearchSpace(memory, *components)


LINEAR_OPS, AFFINE_OPS = (2, 3, 18, 23), (1, 2, 3, 18, 23)
DOT, BIAS = "s1 = dot(v1, v0)", "s1 = dot(v1, v0)\n  s1 = s1 + s2"
EACH = 1 / 2 * 4 / 9 / 4 * 1 / 2 * 2 / 25 / 4
"""The probability of s_t = dot(v1, v0); s1 = s_t + s_b, up to the names of vectors and the order of operands, for one t and
one b. t may be 1 to 4, and b anything but 0 and t."""

SPACES = (
    Space(
        "learn-only linear",
        synthetic.linear,
        sized((4, 3, 1), (), (), LINEAR_OPS, (1, 1, 4)),
        (Form(1.0, DOT, ("s1",), ("v1",)),),
        "s2 = 0.1",
        2.9,
    ),
    Space(
        "linear, Setup given",
        synthetic.linear,
        sized((4, 3, 1), (), (27,), LINEAR_OPS, (1, 1, 4)),
        (Form(4 / 27, DOT, ("s1",), ("v1",)),),  # of 3 x 3 x 3: v0 with v1 or with v2, either first, into s1
        "s2 = 0.1",
        None,
    ),
    Space(
        "linear",
        synthetic.linear,
        sized((4, 3, 1), (56, 57), (27,), LINEAR_OPS, (5, 1, 4)),
        (Form(4 / 27, DOT, ("s1",), ("v1",)),),
        "",
        5.6,
    ),
    Space(
        "learn-only affine",
        synthetic.affine,
        sized((5, 3, 1), (), (), AFFINE_OPS, (1, 2, 6)),
        (Form(1.0, BIAS, ("s1",), ("v1", "s2")),),
        "s3 = 0.1",
        150.0,
    ),
    Space(
        "affine",
        synthetic.affine,
        sized((5, 3, 1), (56, 57), (1, 27), AFFINE_OPS, (6, 2, 6)),
        (
            Form(3 * EACH, BIAS, ("s1",), ("v1", "s2")),
            Form(3 * EACH, "s2 = dot(v1, v0)\n  s1 = s2 + s1", (), ("v1", "s1")),
            Form(6 * EACH, "s2 = dot(v1, v0)\n  s1 = s2 + s3", (), ("v1", "s3")),
        ),
        "",
        23_000.0,
    ),
)


class Found(NamedTuple):
    """What became of programs.

    Attributes:
      seed: of programs and tasks.
      considered: how many programs.
      successes: how many succeeded.
      refuted: how many did well on T_search and not on other tasks.
      trained: how many had to be trained.
      seconds: how long it took.
    """

    seed: int
    considered: int
    successes: int
    refuted: int
    trained: int
    seconds: float


def evaluators(space: Space, seed: int, probe: int = 0) -> tuple[Evaluator, Evaluator]:
    """Of T_search, which remembers programs, and of the tasks that the search does not see."""
    options = {"features": 8, "train": 1000, "valid": 100}
    search, unseen = (space.tasks(n, seed=2 * seed + i, **options) for i, n in enumerate((3, 10)))
    stages = (KnownForms(2**18), *([Probe(probe, 2**18)] if probe else []))
    return Evaluator(search, threads=1, stages=stages), Evaluator(unseen, threads=1, stages=())


def holds(unseen: Evaluator, program: Programs) -> bool:
    return bool(program_fitness(unseen(program).fitness)[0] > HELD_OUT)


# ---------------------------------------------------------------------------------------------- random search


def random_job(space: Space, form: int, seed: int, draws: int, screened: bool = True) -> Found:
    """Random programs with one form of Predict; if `screened`, without training those that cannot succeed."""
    began, rng = time.monotonic(), np.random.default_rng([seed, form, screened])
    search, unseen = evaluators(space, seed)
    successes = refuted = 0
    for start in range(0, draws, CHUNK):
        programs = random_batch(space, space.forms[form], min(CHUNK, draws - start), rng, screened)
        if len(programs):
            fitness = program_fitness(search(programs).fitness)
            good = [holds(unseen, programs[i]) for i in np.flatnonzero(fitness > SUFFICIENT)]
            successes, refuted = successes + sum(good), refuted + len(good) - sum(good)
    return Found(seed, draws, successes, refuted, search.counts.evaluated, round(time.monotonic() - began, 1))


def random_batch(space: Space, form: Form, n: int, rng: np.random.Generator, screened: bool) -> Programs:
    """Of `n` random programs with that Predict those that may succeed; or all."""
    table = learn_table(space.space)
    drawn = rng.integers(len(table), size=(n, space.space.capacity[2]), dtype=np.uint16)
    if screened:
        bits, every = needs(table, form)
        drawn = drawn[np.bitwise_or.reduce(bits[drawn], axis=1) == every]
    programs = with_learn(space, form, table[drawn])
    if screened:
        programs = programs[able(programs, form)]
    if not space.setup:
        setups, slots = random_programs(space.space, len(programs), rng), slice(0, space.space.capacity[0])
        programs.code[:, slots], programs.data[:, slots] = setups.code[:, slots], setups.data[:, slots]
        programs = programs[able(programs, form)] if screened else programs
    return programs


@cache
def learn_table(space: SearchSpace) -> np.ndarray:
    """`[n, 4]` every instruction of Learn, repeated so that a uniform row is a random instruction."""
    rows = []
    for op in space.ops[2]:
        kinds = [*INPUT_KINDS[op], OUTPUT_KINDS[op]]  # s0 and v0 are never written
        ranges = [range(field == 2, space.memory[kind]) for field, kind in enumerate(kinds)]
        rows.append([(op, *addresses) for addresses in product(*ranges)])
    each = int(np.lcm.reduce([len(some) for some in rows]))
    return np.array([row for some in rows for row in some * (each // len(some))], np.int32)


def needs(table: np.ndarray, form: Form) -> tuple[np.ndarray, int]:
    """`[n]` bits: which of the things that Learn has to do an instruction does; and all bits."""
    op = table[:, 0]

    def uses(kinds: np.ndarray, field: int, name: str) -> np.ndarray:
        return (kinds[op] == "sv".index(name[0])) & (table[:, field] == int(name[1]))

    done = [op == 18, op == 23]
    done += [uses(INPUT_KINDS[:, 0], 1, name) | uses(INPUT_KINDS[:, 1], 2, name) for name in ("s0", "v0", *form.reads)]
    done += [uses(OUTPUT_KINDS, 3, name) for name in form.writes]
    bits = sum(flag.astype(np.uint8) << i for i, flag in enumerate(done))
    return np.asarray(bits, np.uint8), 2 ** len(done) - 1


def able(programs: Programs, form: Form) -> np.ndarray:
    """`[n]` whether they can learn, for all that their instructions tell."""
    return conditions(programs) >= (CONDITIONS if "s1" in form.reads else CONDITIONS - 1)


def with_learn(space: Space, form: Form, learn: np.ndarray) -> Programs:
    """Programs of the Learns `[n, L, 4]`, that Predict, and the Setup given; or one that leaves nothing at zero, with
    which all can learn that can with any.
    """
    memory, capacity = space.space.memory, space.space.capacity
    every = [f"s{i} = 1.0" for i in range(1, memory.scalars)] + [f"v{i}[0.0] = 1.0" for i in range(1, memory.vectors)]
    setup = "\n  ".join([space.setup] if space.setup else every)
    text = f"def Setup():\n  {setup}\ndef Predict():\n  {form.predict}\ndef Learn():\n" + "  NoOp()\n" * capacity[2]
    programs = Programs.parse(text, memory, capacity)[np.zeros(len(learn), int)]
    programs.code[:, programs.starts[2] :] = learn
    return programs


# ---------------------------------------------------------------------------------------------- evolution


def evolution_job(space: Space, seed: int, evaluations: int, islands: int = ISLANDS) -> list[Found]:
    """So many independent runs of regularized evolution, side by side."""
    began = time.monotonic()
    evaluator, unseen = evaluators(space, seed, probe=10)
    given = with_learn(space, space.forms[0], np.zeros((1, space.space.capacity[2], 4), np.int32))
    search = RegularizedEvolution(
        space.space, islands, POPULATION, TOURNAMENT, COHORT, initial=given if space.setup else "random"
    )
    state = search.init([seed, 1])
    if space.setup:  # what is not given is random from the start
        rng = np.random.default_rng([seed, 2])
        first = random_programs(space.space, len(state.programs), rng)
        for c, slots in enumerate(map(slice, first.starts[:3], first.starts[1:])):
            if not space.space.ops[c]:
                first.code[:, slots], first.data[:, slots] = given.code[:, slots], given.data[:, slots]
        individuals = dataclasses.replace(state.individuals, programs=first)
        state = dataclasses.replace(state, individuals=individuals)
    ended, successes, refuted = np.full(islands, evaluations), np.zeros(islands, bool), np.zeros(islands, int)
    asked = 0  # of each island
    while asked < evaluations and not successes.all():
        state, candidates = search.ask(state)
        scores, programs = evaluator(candidates), candidates.programs
        fitness = scores.combined
        state = search.tell(state, candidates, scores)
        each = len(programs) // islands
        for i in np.flatnonzero(fitness > SUFFICIENT):
            island = i // each
            if not successes[island]:
                successes[island] = holds(unseen, programs[i])
                refuted[island] += not successes[island]
                ended[island] = asked + i % each + 1 if successes[island] else evaluations
        asked += each
    work = (evaluator.counts.evaluated // islands, round((time.monotonic() - began) / islands, 2))
    rows = zip(ended.tolist(), successes.tolist(), refuted.tolist(), strict=True)
    return [Found(seed, n, int(success), bad, *work) for n, success, bad in rows]


# ---------------------------------------------------------------------------------------------- the experiment

Plan = dict[str, tuple[tuple[int, ...], int, int]]
"""For each space: random programs of each form; evaluations of a run of evolution; and how many batches of `ISLANDS` runs.
The first and the last are for each seed."""

PLANS: dict[str, Plan] = {
    "small": {
        "learn-only linear": ((20_000_000,), 20_000, 16),
        "linear, Setup given": ((20_000_000,), 20_000, 30),
        "linear": ((100_000_000,), 20_000, 120),
        "learn-only affine": ((600_000_000,), 20_000, 50),
    },
    "paper": {
        "learn-only linear": ((1_000_000_000,), 20_000, 100),
        "linear, Setup given": ((1_000_000_000,), 20_000, 100),
        "linear": ((10_000_000_000,), 20_000, 1000),
        "learn-only affine": ((10_000_000_000,), 20_000, 1000),
        "affine": ((100_000_000_000,) * 3, 20_000, 100_000),
    },
}
UNSCREENED = {"small": 2_000_000, "paper": 100_000_000}


def run_all(plan: Plan, unscreened: int, seeds: Sequence[int]) -> list[dict[str, Any]]:
    """A row for each space, and what its random programs of each form and its runs of evolution came to."""
    by_name = {space.name: space for space in SPACES}
    jobs: dict[tuple[str, str, int], list] = {}
    with results.processes(2) as pool:
        for name, (draws, evaluations, batches) in plan.items():
            space = by_name[name]
            for seed in seeds:
                for form, n in enumerate(draws):
                    jobs.setdefault((name, "random", form), []).append(pool.submit(random_job, space, form, seed, n))
                for batch in range(batches):
                    job = pool.submit(evolution_job, space, seed * 1000 + batch, evaluations)
                    jobs.setdefault((name, "evolution", 0), []).append(job)
        first = SPACES[0]
        check = [pool.submit(random_job, first, 0, seed, unscreened, False) for seed in seeds]
        rows = []
        for name, (draws, evaluations, _) in plan.items():
            forms = [[job.result() for job in jobs[name, "random", form]] for form in range(len(draws))]
            runs = [one for job in jobs[name, "evolution", 0] for one in job.result()]
            rows.append(row_of(by_name[name], evaluations, forms, runs))
            if name == first.name:
                rows[-1]["unscreened"] = summed([job.result() for job in check])
            print(line(rows[-1]), flush=True)
    return rows


def summed(runs: Sequence[Found]) -> dict[str, float]:
    names = ("considered", "successes", "refuted", "trained", "seconds")
    return {name: round(sum(getattr(one, name) for one in runs), 1) for name in names}


def row_of(space: Space, length: int, forms: list[list[Found]], runs: list[Found]) -> dict[str, Any]:
    """Rates with their intervals, and how many times better evolution is."""
    rng = np.random.default_rng(0)
    rate, rates = 0.0, np.zeros(10_000)
    for form, draws in zip(space.forms, forms, strict=True):
        hits, drawn = sum(one.successes for one in draws), sum(one.considered for one in draws)
        rate += form.probability * hits / drawn
        rates += form.probability * rng.gamma(hits + 0.5, size=len(rates)) / drawn
    successes, spent = (sum(getattr(run, name) for run in runs) for name in ("successes", "considered"))
    evolution, evolutions = successes / spent, rng.gamma(successes + 0.5, size=len(rates)) / spent
    return {
        "space": space.name,
        "random": [form._asdict() | summed(draws) for form, draws in zip(space.forms, forms, strict=True)],
        "random_rate": rate,
        "random_interval": interval(rates),
        "difficulty": 1 / rate if rate else None,
        "evolution": summed(runs) | {"runs": len(runs), "longest": length, "seeds": sorted({one.seed for one in runs})},
        "succeeded_after": sorted(one.considered for one in runs if one.successes),
        "evolution_rate": evolution,
        "evolution_interval": interval(evolutions),
        "ratio": evolution / rate if rate else None,
        "ratio_interval": interval(evolutions / rates),
        "log_ratio_error": float(np.log(evolutions / rates).std()),
        "paper": space.paper,
    }


def interval(values: np.ndarray) -> list[float]:
    return np.quantile(values, [0.025, 0.975]).tolist()


def line(row: dict[str, Any]) -> str:
    low, high = row["ratio_interval"]
    hits = sum(form["successes"] for form in row["random"])
    return (
        f"{row['space']:19} difficulty {row['difficulty'] or np.inf:9.2e} ({hits:4.0f} successes)  evolution "
        f"{row['evolution_rate']:.2e} ({row['evolution']['successes']:4.0f} in {row['evolution']['considered']:12,.0f})  "
        f"ratio {row['ratio'] or np.nan:8.1f} ({low:.1f} to {high:.1f}), paper {row['paper'] or np.nan:,g}"
    )


def plot(rows: list[dict[str, Any]], out: Path) -> None:
    figure = Figure(figsize=(6.5, 4.5), layout="constrained")
    axes = figure.subplots()
    for row in rows:
        x, y = row["difficulty"], row["ratio"]
        if not x or not y:
            continue
        (low, high), (rare, often) = row["ratio_interval"], row["random_interval"]
        errors = {"xerr": [[x - 1 / often], [1 / rare - x]], "yerr": [[y - low], [high - y]]}
        axes.errorbar(x, y, **errors, fmt="o", color="C0", capsize=3)
        label = f"{row['space']}\n{row['evolution']['successes']:.0f} successes"
        axes.annotate(label, (x, y), (-6, 6), textcoords="offset points", ha="right", fontsize="small")
        if row["paper"]:
            axes.plot(x, row["paper"], "s", markerfacecolor="none", color="C1")
    axes.plot([], [], "s", markerfacecolor="none", color="C1", label="the paper's plot, same space")
    axes.legend(loc="upper left")
    axes.axhline(1, color="0.6", linewidth=1)
    axes.set(xscale="log", yscale="log", ylabel="successes per program, evolution over random search")
    axes.set_xlabel("difficulty: random programs per success")
    axes.margins(0.4, 0.25)
    figure.savefig(out)


def main(argv: Sequence[str] | None = None) -> None:
    chosen = results.options(results.Options, __doc__, argv)
    began, out = time.monotonic(), results.path(chosen, __file__)
    rows = run_all(PLANS[chosen.size], UNSCREENED[chosen.size], chosen.seeds)
    check, first = rows[0]["unscreened"], rows[0]["random"][0]
    rates = (
        f"{first['successes'] / first['considered']:.2e} screened, {check['successes'] / check['considered']:.2e} not"
    )
    print(f"success rate of random programs, {rows[0]['space']}: {rates} ({check['successes']:.0f} successes)")
    grows = []
    for easier, harder in pairwise(sorted(rows, key=lambda row: row["difficulty"] or np.inf)):
        if easier["ratio"] and harder["ratio"]:
            error = np.hypot(easier["log_ratio_error"], harder["log_ratio_error"])
            z = float((np.log(harder["ratio"]) - np.log(easier["ratio"])) / error)
            grows.append({"from": easier["space"], "to": harder["space"], "standard_errors": z})
            print(
                f"from {easier['space']} to {harder['space']}: the ratio's logarithm grows by {z:.1f} standard errors"
            )
    sizes = {"population": POPULATION, "tournament": TOURNAMENT, "cohort": COHORT, "islands": ISLANDS}
    bars = {"sufficient": SUFFICIENT, "held_out": HELD_OUT}
    results.write(out, began, chosen.seeds, {"sizes": sizes | bars, "rows": rows, "grows": grows})
    plot(rows, out.with_suffix(".svg"))


if __name__ == "__main__":
    main()
