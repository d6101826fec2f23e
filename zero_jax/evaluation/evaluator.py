"""`Evaluator`: what saves work around `evaluate`: a program is trained once, under whatever guise it comes.

Axes: `P` programs, `T` tasks.
"""

from collections.abc import Callable, Generator, Sequence
from typing import Any, Literal, NamedTuple, get_args

import jax
import numpy as np

from zero_jax.evaluation import cache
from zero_jax.evaluation.cost import UPSTREAM, Costs, operations, within_budget
from zero_jax.evaluation.hurdles import Hurdles, Rung
from zero_jax.executors import devices as there
from zero_jax.executors.api import check_bound, check_threads
from zero_jax.executors.base import MAX_BYTES, Executor, Options, Pending, Prepared, Request
from zero_jax.executors.registry import choose
from zero_jax.program.canonical import canonical
from zero_jax.program.memory import Interface
from zero_jax.program.programs import Programs
from zero_jax.support import threads as parallel
from zero_jax.support.bounds import check_number
from zero_jax.support.checked import Fields
from zero_jax.tasks import Tasks

REMEMBERED = 2**15
"""How many programs an evaluator remembers."""

FORGET_EVERY = 100
"""After so many uses of a probe's result, one program is trained again (SPEC 4)."""


class Counts(NamedTuple):
    """What became of the programs asked for.

    Attributes:
      considered: all of them: the sum of the next five.
      evaluated: those that were trained.
      repeated: those equal to an earlier one of their batch.
      known: those remembered from an earlier batch.
      alike: those that a probe found to do what an earlier one does.
      too_dear: those over the train budget, which got fitness 0.
      stopped: those evaluated that a hurdle stopped.
      empty: those of all the above that never write a prediction: without dead code nothing is left of them, so they
        are equal, and only the first is trained.
      train_steps: training examples that the trained ones saw, probes not counted.
      saved_repeated, saved_known, saved_alike: training examples that others saw for those three.
      saved_too_dear, saved_stopped: training examples that those two would have seen at most.
    """

    considered: int = 0
    evaluated: int = 0
    repeated: int = 0
    known: int = 0
    alike: int = 0
    too_dear: int = 0
    stopped: int = 0
    empty: int = 0
    train_steps: int = 0
    saved_repeated: int = 0
    saved_known: int = 0
    saved_alike: int = 0
    saved_too_dear: int = 0
    saved_stopped: int = 0


def counts_from(tree: Any, where: str = "counts") -> Counts:
    """`Counts` from what `_asdict` told of some.

    Raises:
      ValueError: a field that is missing, unknown, or no whole number from 0 on.
    """
    told = Fields(tree, where, Counts._fields)
    return Counts(*(told.whole(name) for name in Counts._fields))


class Fresh(NamedTuple):
    """Programs that were new and trained in full, or like one that was.

    Attributes:
      programs: a batch in canonical form that they are in.
      which: `[n]` where in it.
      rows: `[n]` where among the programs that were asked for.
    """

    programs: Programs
    which: np.ndarray
    rows: np.ndarray


class Evaluated(NamedTuple):
    """What became of programs.

    Attributes:
      fitness: `[P, T]` float32.
      train_steps: `[P, T]` int32: those spent now, 0 for a fitness that was known.
      fresh: those of the programs that nothing was known of before.
    """

    fitness: np.ndarray
    train_steps: np.ndarray
    fresh: Fresh | None = None


Steps = Generator[None, None, "Evaluated"]
"""What yields whenever a device has been given work, so that the host can do something else, and returns the result."""


class Evaluator:
    """Evaluates programs on one set of tasks, each canonical form once.

    Programs of one canonical form (`zero_jax.program.canonical`) have the same fitness bit for bit, so results do not
    depend on what is remembered, but for `probe` and `hurdles`.

    Args:
      tasks: the tasks.
      seed, executor, ops, max_abs_error, max_bytes, threads: as in `evaluate`.
      remember: how many programs to remember, rounded up to a power of two; 0 remembers nothing.
      probe: with `simd` and `pallas`, programs that are new are first trained on so many examples, and validated on as
        many, and one whose errors are those of an earlier program, to the bit, is taken to have its fitness: the
        functional equivalence cache (SPEC 4; section 4 of the paper's supplement). 0 for none.
      forget_every: after so many uses of what a probe found, a program is trained again; 0 for never.
      budget: programs that cost more than so many times the 2-layer network (`zero_jax.evaluation.cost`) get fitness 0
        untrained; 0 for no limit.
      costs: what an instruction costs: `upstream`, as upstream measured it, or `operations`, counted.
      hurdles: rungs (`Rung`) at which programs are judged before they are trained in full
        (`zero_jax.evaluation.hurdles`).
      devices: as in `evaluate`, but by default all GPUs or TPUs there are.
      interpret: as in `evaluate`.
      background: whether `simd` works on a thread of its own while the caller goes on, as a GPU does.

    Attributes:
      counts: `Counts` of all calls so far.
      examples: how many training examples one run of a program sees, epochs counted.
      costs: `[65]` what each op costs.

    Raises:
      ValueError: as `evaluate`; `remember`, `probe` or `forget_every` beyond `bounds.BOUNDS`; a `budget`
        below 0, or unknown `costs`.

    Example:
      >>> from zero_jax import library
      >>> from zero_jax.tasks import synthetic
      >>> evaluator = Evaluator(synthetic.linear(2, train=10))
      >>> program = library.program("linear")
      >>> evaluator(program).fitness.shape, evaluator(program).fitness.shape
      ((1, 2), (1, 2))
      >>> evaluator.counts.evaluated, evaluator.counts.known
      (1, 1)
    """

    def __init__(
        self,
        tasks: Tasks,
        seed: int = 0,
        *,
        executor: str = "auto",
        ops: Any = None,
        max_abs_error: float = 100.0,
        max_bytes: int = MAX_BYTES,
        threads: int | None = None,
        remember: int = REMEMBERED,
        probe: int = 0,
        forget_every: int = FORGET_EVERY,
        budget: float = 0.0,
        costs: Costs = "upstream",
        hurdles: Sequence[Rung] = (),
        devices: Sequence[jax.Device] | None = None,
        interpret: bool = False,
        background: bool = False,
    ) -> None:
        for name, value in (("remember", remember), ("probe", probe), ("forget_every", forget_every)):
            check_number(name, value)
        if not budget >= 0 or costs not in get_args(Costs):
            raise ValueError(f"budget must be at least 0 and costs upstream or operations, not {budget} and {costs!r}")
        check_threads(threads)
        check_bound(max_abs_error)
        self.devices = there.first_devices(0) if devices is None else there.chosen_devices(devices)
        # Threads do not see the caller's `with jax.default_device(...)`.
        self._home = self.devices or (there.default_device(),)
        self.interpret = interpret
        self._worker = parallel.Worker("zero-jax evaluator") if background else None
        self.tasks = tasks
        self.seed = seed
        self.executor = executor
        self.options: dict[str, Any] = {"max_abs_error": max_abs_error, "threads": threads}
        self.ops = ops
        self.max_bytes = max_bytes
        self.counts = Counts()
        self._forms = cache.empty(remember, len(tasks))
        self._fingerprints = cache.empty(remember if probe else 0, len(tasks))
        self._probe = probe
        self._forget_every = forget_every
        self._budget = budget
        self.costs = UPSTREAM if costs == "upstream" else operations(tasks.features)
        self.examples = tasks.order.shape[0] * tasks.train_x.shape[1]
        self._hurdles = Hurdles(hurdles)
        self._batch = 0
        self._laid_out: dict[tuple[str, _Part], Prepared] = {}

    def __call__(self, programs: Programs) -> Evaluated:
        """The fitness of `P` programs."""
        steps = self.steps(programs)
        while True:
            try:
                next(steps)
            except StopIteration as end:
                return end.value

    def steps(self, programs: Programs) -> Steps:
        """The same, step by step. Several may be under way; what is remembered then depends on the order of their
        steps, as does what `probe` finds alike and what `hurdles` stop, and nothing else.
        """
        self._batch += 1
        with there.at_home(self._home):
            chosen = choose(self.executor, Request(programs.memory, self.tasks, self._options()))
        if not self._budget:
            return (yield from self._evaluated(chosen, programs))
        fits = within_budget(programs, self.examples, self._budget, self.costs)
        within = np.flatnonzero(fits)
        told = yield from self._evaluated(chosen, programs[within])
        n, tasks = len(programs), len(self.tasks)
        fitness, steps = np.zeros((n, tasks), np.float32), np.zeros((n, tasks), np.int32)
        fitness[fits], steps[fits] = told.fitness, told.train_steps
        dear = n - int(fits.sum())
        self._count(considered=dear, too_dear=dear, saved_too_dear=dear * self.examples * tasks)
        assert told.fresh is not None
        return Evaluated(fitness, steps, told.fresh._replace(rows=within[told.fresh.rows]))

    def _evaluated(self, chosen: Executor, programs: Programs) -> Steps:
        """Programs within the budget: those that are new in their canonical form, and to a probe, are trained."""
        batch = self._batch
        form = canonical(programs, self.options["threads"], Interface.of(programs.memory, self.tasks))
        fresh = np.zeros(0, np.int64)

        def train(rows: np.ndarray) -> Steps:
            nonlocal fresh
            told, whole = yield from self._trained(chosen, form.programs, rows)
            fresh = np.concatenate([fresh, rows[whole]])
            self._count(evaluated=len(rows), train_steps=int(told.train_steps.sum(dtype=np.int64)))
            return told

        def compare(rows: np.ndarray) -> Steps:
            waiting = self._launch(chosen, form.programs, rows, "fingerprints")
            yield
            (prints,) = waiting()
            nonlocal fresh
            found = yield from self._remembered(
                self._fingerprints, prints, batch, self._forget_every, lambda some: train(rows[some])
            )
            self._count(alike=len(rows) - found.runs, saved_alike=found.saved)
            if not len(self._hurdles):  # or it may be like one that a hurdle stopped
                fresh = rows
            return found.told

        probes = self._probe and chosen.fingerprints
        found = yield from self._remembered(self._forms, form.hashes, batch, 0, compare if probes else train)
        n, empty = len(programs), int((form.programs.length.sum(1) == 0).sum())
        self._count(
            considered=n,
            repeated=n - found.runs - found.known,
            known=found.known,
            empty=empty,
            saved_repeated=found.saved - found.saved_known,
            saved_known=found.saved_known,
        )
        return found.told._replace(fresh=Fresh(form.programs, fresh, fresh))

    def _trained(
        self, chosen: Executor, programs: Programs, rows: np.ndarray
    ) -> Generator[None, None, tuple[Evaluated, np.ndarray]]:
        """Rows of programs, trained in full but for those that a hurdle stops; and which of them were."""
        if not len(self._hurdles):
            waiting = self._launch(chosen, programs, rows, "whole")
            yield
            told = waiting()
            return Evaluated(told[0], told[1]), np.arange(len(rows))
        n, tasks = len(rows), len(self.tasks)
        fitness, steps = np.zeros((n, tasks), np.float32), np.zeros((n, tasks), np.int32)
        going = np.arange(n)
        for number in range(len(self._hurdles)):
            if not len(going):
                break
            waiting = self._launch(chosen, programs, rows[going], number)
            yield
            early, spent = waiting()
            score = early.mean(1, dtype=np.float64)
            passed = self._hurdles.passed(number, score)
            steps[going, : spent.shape[1]] += spent
            stopped = going[~passed]
            fitness[stopped] = score[~passed, None]
            saved = len(stopped) * self.examples * tasks - int(steps[stopped].sum(dtype=np.int64))
            self._count(stopped=len(stopped), saved_stopped=saved)
            going = going[passed]
        if len(going):
            waiting = self._launch(chosen, programs, rows[going], "whole")
            yield
            known, spent = waiting()
            fitness[going] = known
            steps[going] += spent
        return Evaluated(fitness, steps), going

    def _count(self, **more: int) -> None:
        self.counts = self.counts._replace(**{name: getattr(self.counts, name) + n for name, n in more.items()})

    def tree(self) -> dict[str, Any]:
        """All that later calls depend on, as `zero_jax.support.files.packed` takes it; while nothing is under way."""
        return {
            "counts": self.counts._asdict(),
            "batch": self._batch,
            "forms": self._forms._asdict(),
            "fingerprints": self._fingerprints._asdict(),
            "hurdles": self._hurdles.tree(),
        }

    def restore(self, tree: Any, where: str = "evaluator") -> None:
        """Goes on from what `tree` told of an evaluator with the same arguments.

        Raises:
          ValueError: saying what in it, as errors call it, is damaged or of another evaluator.
        """
        told = Fields(tree, where, ("counts", "batch", "forms", "fingerprints", "hurdles"))
        counts, batch = counts_from(told["counts"], told.where("counts")), told.whole("batch")
        forms, fingerprints = (
            cache.restored(told[name], like, batch, told.where(name))
            for name, like in (("forms", self._forms), ("fingerprints", self._fingerprints))
        )
        self._hurdles.restore(told["hurdles"], told.where("hurdles"))
        self.counts, self._batch, self._forms, self._fingerprints = counts, batch, forms, fingerprints

    def __getstate__(self) -> dict[str, Any]:
        """All but threads and what lies on devices; these by kind and number."""
        kept = {name: value for name, value in vars(self).items() if name not in ("_laid_out", "devices")}
        home = [(device.platform, device.id) for device in self._home]
        return kept | {"_home": home, "chosen": self.devices is not None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """On the same devices, or on the default ones where those are not there."""
        home, chosen = state.pop("_home"), state.pop("chosen")
        vars(self).update(state)
        found = _devices_again(home)
        self.devices = there.first_devices(0) if found is None else found if chosen else None
        self._home = found or self.devices or (there.default_device(),)
        self._laid_out = {}

    def _remembered(
        self,
        known: cache.Cache,
        hashes: np.ndarray,
        batch: int,
        forget: int,
        train: Callable[[np.ndarray], Steps],
    ) -> Generator[None, None, "_Found"]:
        """Results for hashes, remembered or from `train`, which takes the rows that are new, each hash once."""
        n, tasks = len(hashes), len(self.tasks)
        fitness, steps = np.zeros((n, tasks), np.float32), np.zeros((n, tasks), np.int32)
        run_of, entry_of, first = np.full((3, n), -1, np.int64)
        runs, hits, saved = cache.look_up(hashes, known, batch, forget, fitness, run_of, entry_of, first)
        repeated = 0
        if runs:
            trained = (yield from train(first[:runs]))[:2]
            repeated = int(cache.keep(hashes, known, *trained, run_of, entry_of, first, fitness, steps))
        return _Found(Evaluated(fitness, steps), runs, hits, saved + repeated, saved)

    def _options(self) -> Options:
        return Options(
            ops=self.ops, max_bytes=self.max_bytes, devices=self.devices, interpret=self.interpret, canonical_form=True,
            **self.options,
        )  # fmt: skip

    def _launch(self, chosen: Executor, programs: Programs, rows: np.ndarray, what: "_Part") -> Pending:
        """Begins to train the programs of some rows on a part of the tasks, or to make `[R, 2]` uint64 hashes of all
        errors of a probe; returns what waits for the result.
        """
        fingerprints = what == "fingerprints"
        with there.at_home(self._home):
            prepared = self._prepared(chosen, what)
            if not chosen.on_host or self._worker is None:
                return chosen.launch(programs, prepared, self.seed, rows=rows, fingerprints=fingerprints)
        return self._worker.begin(
            lambda: chosen.launch(programs, prepared, self.seed, rows=rows, fingerprints=fingerprints)()
        )

    def _prepared(self, chosen: Executor, what: "_Part") -> Prepared:
        """The tasks, or a part of them, as an executor takes them."""
        if (chosen.name, what) not in self._laid_out:
            self._laid_out[chosen.name, what] = chosen.prepare(self._part(what), self._options())
        return self._laid_out[chosen.name, what]

    def _part(self, what: "_Part") -> Tasks:
        if what == "whole":
            return self.tasks
        if what == "fingerprints":
            return self.tasks.shortened(self._probe, self._probe)
        return self._hurdles.rungs[what].part(self.tasks)


_Part = Literal["whole", "fingerprints"] | int
"""All tasks, those of the probe, or those of a rung."""


class _Found(NamedTuple):
    """Results; how many rows were trained and how many remembered; and the train steps that were not made again, of all
    and of those remembered.
    """

    told: Evaluated
    runs: int
    known: int
    saved: int
    saved_known: int


def _devices_again(where: list[tuple[str, int]]) -> tuple[jax.Device, ...] | None:
    """The devices of these kinds and numbers; None unless all are there."""
    try:
        there = {(d.platform, d.id): d for kind in {kind for kind, _ in where} for d in jax.local_devices(backend=kind)}
        return tuple(there[kind, number] for kind, number in where)
    except (RuntimeError, KeyError):  # no devices of such a kind, or not so many
        return None
