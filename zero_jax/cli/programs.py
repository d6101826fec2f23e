"""`zero-jax evaluate`, `tune` and `show`: commands on programs."""

import dataclasses
import io
import warnings
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import tyro

from zero_jax.cli import options
from zero_jax.cli.options import NO_TASK_OPTIONS, Program, Size, Tasked
from zero_jax.executors.api import evaluate as evaluate_programs
from zero_jax.executors.base import MAX_BYTES
from zero_jax.executors.fitness import program_fitness
from zero_jax.executors.registry import check_executor
from zero_jax.program import library
from zero_jax.program.canonical import for_other_labels, pruned
from zero_jax.program.memory import Interface
from zero_jax.program.programs import Programs, concatenate
from zero_jax.run import cautions
from zero_jax.run.progress import displayed
from zero_jax.support.bounds import check_number
from zero_jax.support.files import check_writable, write_atomically
from zero_jax.support.foreign import plain
from zero_jax.support.stopping import handled
from zero_jax.tasks.sets import Role
from zero_jax.use import tuning
from zero_jax.use.tuning import Tuned


@dataclasses.dataclass(frozen=True)
class TrainingOptions:
    """How programs are trained.

    Attributes:
        executor: auto, or an executor by its name: xla runs anywhere. An unknown name lists all.
        threads: CPU threads; 0 for all cores.
        max_bytes: Maximum training memory, in bytes.
        max_abs_error: Stop training a program on a task, with fitness 0, once a training error exceeds this.
    """

    executor: str = "auto"
    threads: int = 0
    max_bytes: int = MAX_BYTES
    max_abs_error: float = 100.0

    def keywords(self) -> dict[str, Any]:
        """As `evaluate` takes them."""
        return dataclasses.asdict(self) | {"threads": self.threads or None}


_NO_DATE: dict[str, dict[str, None]] = {"svg": {"Date": None}, "png": {}, "pdf": {"CreationDate": None}}
"""By the kind of a picture, what keeps the time out of it."""

Trained = Annotated[TrainingOptions, tyro.conf.arg(name="")]


@dataclasses.dataclass(frozen=True)
class TuningOptions:
    """How constants are tuned.

    Attributes:
        method: random search; optuna, which needs pip install 'zero-jax[optuna]'; or gradient, for regression.
        evaluations: Number of candidates to train; a gradient counts as 5.
        time_limit: Stop tuning after this long, in seconds or as in 90s, 10m, 1h30m; 0 for no limit.
        combine: The objective: the mean or the median of the fitness over the tasks.
    """

    method: tuning.Method = "random"
    evaluations: int = 1000
    time_limit: float = 0.0
    combine: tuning.Combine = "mean"


def evaluate_command(
    program: Program,
    /,
    tasks: Tasked = NO_TASK_OPTIONS,
    role: Role = "unseen",
    seed: int = 0,
    draws_seed: Size = None,
    training: Trained = TrainingOptions(),
) -> int:
    """Trains a program on tasks and prints its fitness.

    Args:
        program: As `Program` says.
        tasks: The tasks to train on.
        role: For digits and image sets: search selects the 36 class pairs used during search, select and unseen the
            other 9.
        seed: Random seed of the tasks and of random instructions, from 0 to 2**64 - 1.
        draws_seed: Separate seed of random instructions, from 0 to 2**32 - 1 (default: the same as seed); a run's
            outcome.json has both.
        training: How the program is trained.
    """
    check_number("seed", seed)
    if draws_seed is not None:
        check_number("draws_seed", draws_seed)
    check_executor(training.executor)
    programs = library.load(program)
    made = tasks.task_set().make(seed, role)
    options.note_other_labels(programs, made)
    result = evaluate_programs(programs, made, seed if draws_seed is None else draws_seed, **training.keywords())
    fitness, steps = np.asarray(result.fitness), np.asarray(result.train_steps)
    print(f"{made}")
    for i in range(len(programs)):
        f = fitness[i]
        error = f"{f.std(ddof=1) / np.sqrt(len(f)):.6f}" if len(f) > 1 else "unknown for one task"
        name = "" if len(programs) == 1 else f"program {i}: "
        mean, median = program_fitness(f[None])[0], program_fitness(f[None], "median")[0]
        print(
            f"{name}mean {options.measure(made.loss)} {mean:.6f} (standard error {error}), median {median:.6f}, "
            f"lowest {f.min():.6f}, highest {f.max():.6f}; {int(steps[i].sum()):,} train steps"
        )
    cautions.warn_of_stops(steps, made, training.max_abs_error)
    return 0


def evaluate(arguments: list[str]) -> int:
    """Runs the command; returns the exit code."""
    options.note_other_tasks(arguments)
    return options.parsed(evaluate_command, arguments, prog="zero-jax evaluate")


def tune_command(
    program: Program,
    /,
    tasks: Tasked = NO_TASK_OPTIONS,
    search: Annotated[TuningOptions, tyro.conf.arg(name="")] = TuningOptions(),
    seed: int = 0,
    out: Annotated[Path | None, tyro.conf.arg(metavar="FILE", help_behavior_hint="")] = None,
    training: Trained = TrainingOptions(),
    quiet: tyro.conf.FlagCreatePairsOff[bool] = False,
) -> int:
    """Tunes a program's constants by multiplying each by a factor between 0.001 and 1000. Ctrl-C keeps the best so far.

    The fitness is also measured on tasks not used for tuning (role select, seed + 1).

    Args:
        program: As `Program` says.
        tasks: The tasks to tune on.
        search: How the constants are tuned.
        seed: Random seed of the tasks, of random instructions and of the factors, from 0 to 2**64 - 1.
        out: The file to write the listing of the tuned program to.
        training: How programs are trained.
        quiet: Hide progress.
    """
    check_number("seed", seed)
    if out is not None:
        check_writable(out)
    check_executor(training.executor)
    before, described = library.load(program), tasks.task_set()
    made = described.make(seed, "search")
    options.note_other_labels(before, made)
    with displayed("tune", quiet=quiet) as display:

        def report(done: int, fitness: float) -> None:
            display.show(done, done / search.evaluations, f"best fitness {fitness:.6f}")

        tuned = tuning.tune(before, made, seed=seed, report=report, **dataclasses.asdict(search), **training.keywords())
    print(
        f"{'Interrupted after ' * tuned.interrupted}{'Out of time after ' * tuned.timed_out}"
        f"{tuned.evaluations:,} evaluation{'s' * (tuned.evaluations != 1)}, "
        f"{tuned.train_steps:,} train steps, {tuned.seconds:.1f} s\n"
        f"{options.measure(made.loss)} on the {len(made)} tasks used for tuning: {tuned.fitness_before:.6f} before, "
        f"{tuned.fitness:.6f} after"
    )
    text = tuned.program.listing(0)
    if out is not None:
        _write(out, text)
    if made.loss == "rmse" and tuned.fitness == 0:
        warnings.warn(f"all candidates have fitness 0: {cautions.advice(made, training.max_abs_error)}", stacklevel=1)
    if not described.is_own and not tuned.interrupted:  # other tasks exist
        held_out = described.make(seed + 1, "select")
        _print_held_out(tuned, before, held_out, seed + 1, search.combine, training.keywords())
    print(f"\n{text}")
    if out is not None:
        print(f"Written to {plain(out)}")
    with handled() as stop:
        return stop.exit_code if tuned.interrupted else 0


def _write(out: Path, text: str) -> None:
    """Writes a listing, or prints it if it cannot be written, so that it is not lost."""
    try:
        write_atomically(out, f"{text.rstrip()}\n")
    except OSError:
        print(f"\n{text}")
        raise


def _print_held_out(tuned: Tuned, before: Any, held_out: Any, seed: int, combine: tuning.Combine, how: Any) -> None:
    both = concatenate([before, tuned.program])
    fitness = program_fitness(evaluate_programs(both, held_out, seed, **how).fitness, combine)
    measure = options.measure(held_out.loss)
    print(f"{measure} on {len(held_out)} other tasks: {fitness[0]:.6f} before, {fitness[1]:.6f} after")


def tune(arguments: list[str]) -> int:
    """Runs the command; returns the exit code."""
    rest, timed = options.taken(arguments, valued=["--time-limit"])
    words = [*rest, *(word for value in timed.values() for word in ("--time-limit", str(options.seconds(value))))]
    options.note_other_tasks(arguments)
    return options.parsed(tune_command, words, prog="zero-jax tune")


def show_command(
    program: Program,
    /,
    form: Literal["listing", "proto", "json"] = "listing",
    prune: bool = False,
    labels: Literal["auto", "scalar", "vector"] = "auto",
    graph: Annotated[Path | None, tyro.conf.arg(metavar="FILE", help_behavior_hint="")] = None,
) -> int:
    """Prints a program, or draws it.

    Args:
        program: As `Program` says.
        form: A listing, the protobuf text of the original AutoML-Zero code, or JSON.
        prune: Leave out instructions that can never affect a prediction.
        labels: With --prune and --graph: whether the program predicts scalars (s1) or, for more than two classes,
            vectors (v2); auto assumes vectors for a program that writes v2 in Predict and never writes s1.
        graph: The SVG, PNG or PDF file to draw the flow of data in, without dead code, in place of printing.
    """
    programs = library.load(program)
    vector = labels == "vector" or (labels == "auto" and bool(for_other_labels(programs).all()))
    interface = (Interface.vector if vector else Interface.scalar)(programs.memory)
    if graph is not None:
        _draw(graph, programs, interface)
        return 0
    if prune:
        programs = pruned(programs, interface)
    if form == "json":
        print(programs.to_json())
    else:
        one = Programs.listing if form == "listing" else Programs.to_proto
        print("\n\n".join(one(programs, i).rstrip() for i in range(len(programs))))
    return 0


def _draw(file: Path, programs: Programs, interface: Interface) -> None:
    """Writes the graph of one program."""
    kind = file.suffix.lower().removeprefix(".")
    if kind not in _NO_DATE:
        raise ValueError(f"--graph {plain(file)}: expected a name that ends in .{', .'.join(_NO_DATE)}")
    if len(programs) > 1:
        raise ValueError(f"--graph draws one program, but there are {len(programs)} in that file")
    import matplotlib  # takes half a second

    check_writable(file)
    picture = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": "graph"}):  # equal programs, equal files
        programs.graph(0, interface).savefig(picture, format=kind, metadata=_NO_DATE[kind])
    write_atomically(file, picture.getvalue())
    print(f"Written to {plain(file)}")


def show(arguments: list[str]) -> int:
    """Runs the command; returns the exit code."""
    return options.parsed(show_command, arguments, prog="zero-jax show")
