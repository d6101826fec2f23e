"""The command line: `zero-jax search | report | evaluate | tune | show | bench`."""

import dataclasses
import os
import signal
import sys
from collections.abc import Sequence
from json import dumps
from pathlib import Path
from types import FrameType
from typing import Annotated, Any, Literal

import numpy as np
import tyro

from zero_jax import bench as benchmark
from zero_jax import cluster, library, listing, tuning
from zero_jax import experiment as experiments
from zero_jax import forecast as forecasts
from zero_jax.bounds import check_number
from zero_jax.canonical import for_other_labels, pruned
from zero_jax.executors.batches import MAX_BYTES
from zero_jax.executors.choice import check_executor
from zero_jax.executors.contract import program_fitness
from zero_jax.executors.evaluate import evaluate as evaluate_programs
from zero_jax.files import write_atomically
from zero_jax.presets import PRESETS
from zero_jax.programs import Programs, concatenate
from zero_jax.runs import Outcome, progress_bar
from zero_jax.settings import Experiment
from zero_jax.tasks import Loss
from zero_jax.tasks.sets import Role, TaskSet, usual

BAD_INPUT = 2
INTERRUPTED = 130

_USAGE = f"""usage: zero-jax COMMAND ...

commands:
  search PRESET     search for a program: {", ".join(PRESETS)}
  search --resume RUN
                    go on with a run from its last checkpoint; RUN is its folder
  search ... --ray [ADDRESS]
                    share islands among actors of Ray (--actors says how many):
                    on this machine, or on the cluster at HOST:PORT
  report RUN        write what there is to see of a run as an HTML page; print its best programs
  evaluate PROGRAM  train a program on tasks and print its fitness
  tune PROGRAM      look for better constants of a program
  show PROGRAM      print a program as listing, proto or JSON
  bench             measure how fast this machine trains programs

'zero-jax COMMAND --help' tells a command's options."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command; returns the exit code: 0, 2 for bad input, 130 after Ctrl-C."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    commands = {
        "search": _search,
        "report": _report,
        "evaluate": _evaluate,
        "tune": _tune,
        "show": _show,
        "bench": _bench,
    }
    if given[:1] in (["-h"], ["--help"]):
        print(_USAGE)
        return 0
    if not given or given[0] not in commands:
        return _fail(f"unknown command {given[0]!r}\n{_USAGE}" if given else f"no command given\n{_USAGE}")
    try:
        return commands[given[0]](given[1:])
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        raise
    except (ValueError, OSError) as error:
        return _fail(str(error))
    except MemoryError as error:
        return _fail(f"not enough memory for that: {error}")


def _fail(message: str) -> int:
    print(f"zero-jax: {message}", file=sys.stderr)
    return BAD_INPUT


# ---------------------------------------------------------------------------------------------- search


def _search(arguments: list[str]) -> int:
    arguments, address = _without_ray(arguments)
    if any(a == "--resume" or a.startswith("--resume=") for a in arguments):
        return _resume(arguments, address)
    alone: dict[str, Any] = {} if address is None else {"side_by_side": 1}  # actors keep all cores busy
    union = tyro.extras.subcommand_type_from_defaults(
        {name: dataclasses.replace(preset, **alone) for name, (_, preset) in PRESETS.items()},
        {name: description for name, (description, _) in PRESETS.items()},
        prefix_names=False,
    )
    others = "Besides: --resume RUN goes on with a run; --ray [HOST:PORT] shares the islands among actors of Ray."
    how: dict[str, Any] = {"prog": "zero-jax search", "description": others}
    chosen: Experiment = tyro.cli(union, args=arguments, config=(tyro.conf.FlagCreatePairsOff,), **how)
    chosen.searcher()
    chosen.check_tasks()  # mistakes show before a forecast
    if forecasts.is_long(chosen):
        _print_forecast(forecasts.forecast(chosen), chosen)
    with progress_bar(chosen.name) as report:
        outcome = experiments.run(chosen, report) if address is None else cluster.run(chosen, report, address)
    return _told(outcome, address)


def _without_ray(arguments: list[str]) -> tuple[list[str], str | None]:
    """All but `--ray [ADDRESS]` or `--ray=ADDRESS`, and the address: empty for a local cluster, None without it."""
    rest, address = [], None
    given = list(arguments)
    while given:
        one = given.pop(0)
        if one.startswith("--ray="):
            address = one.removeprefix("--ray=")
        elif one == "--ray":
            address = given.pop(0) if given and given[0] not in PRESETS and not given[0].startswith("-") else ""
        else:
            rest.append(one)
    return rest, address


def _resume(arguments: list[str], address: str | None) -> int:
    given = [part for a in arguments for part in (a.split("=", 1) if a.startswith("--resume=") else [a])]
    if len(given) != 2 or given[0] != "--resume":
        others = " ".join(a for i, a in enumerate(given) if a != "--resume" and given[i - 1 : i] != ["--resume"])
        raise ValueError(
            "zero-jax search --resume RUN goes on with a run under the settings that it began with (config.json); "
            f"RUN is its folder{f'. Leave out: {others}' if others else ''}"
        )
    with progress_bar(Path(given[1]).name) as report:
        one = given[1], report
        outcome = experiments.resume(*one) if address is None else cluster.resume(*one, address)
    return _told(outcome, address)


def _told(outcome: Outcome, address: str | None) -> int:
    _print_outcome(outcome)
    if outcome.interrupted and outcome.folder:
        ray = "" if address is None else f" --ray {address}".rstrip()
        print(f"To go on from the last checkpoint: zero-jax search --resume {outcome.folder}{ray}")
    return INTERRUPTED if outcome.interrupted else 0


def _print_forecast(told: forecasts.Forecast, chosen: Experiment) -> None:
    minutes = f"{told.seconds / 60:.1f} min" if told.seconds < 7200 else f"{told.seconds / 3600:.1f} h"
    generations = chosen.train_steps / told.examples
    print(
        f"A generation of {told.programs:,} programs sees {told.examples:,} training examples: about {minutes} on "
        f"{told.executor} if each took as long as the 2-layer network, and {told.bytes / 2**30:.2f} GiB of memory. "
        f"--train-steps is worth {generations:.3g} such generations; shorter programs, early stops and known programs "
        "make more of it.",
        flush=True,
    )


def _print_outcome(outcome: Outcome) -> None:
    progress = outcome.progress
    unsolved = f"Below the sufficient fitness of {outcome.sufficient_fitness:g} after"
    ended = "Interrupted in" if outcome.interrupted else "Solved in" if outcome.solved else unsolved
    number = outcome.experiment if outcome.solved else progress.experiment
    print(
        f"{ended} experiment {number}: {progress.evaluations:,} programs, "
        f"{progress.trained:,} of them trained, {progress.train_steps:,} train steps, {progress.seconds:.1f} s"
    )
    if progress.exhausted:
        print(f"Experiments that ended since there was nothing new left to train: {progress.exhausted}")
    if progress.lost:
        print(f"Actors of Ray were lost {progress.lost} times and started again")
    if outcome.program is not None:
        _print_table(outcome)
        print(f"\n{outcome.program.listing(0)}\n")
    if outcome.folder:
        names = sorted(p.name for p in outcome.folder.iterdir() if not p.name.startswith("."))
        print(f"Written to {outcome.folder}: {', '.join(names)}")


def _print_table(outcome: Outcome) -> None:
    names = ("T_search", "T_select", "unseen")
    heads = [f"{name} ({n} tasks)" for name, n in zip(names, outcome.tasks, strict=True)]
    measure = _measure(outcome.loss)
    rows = [("found program", outcome.search_fitness, outcome.select_fitness, outcome.unseen_fitness)]
    rows += [(f"{b.name} (learning rate {b.learning_rate:g})", *b[2:]) for b in outcome.baselines]
    first = max(len(measure), *(len(row[0]) for row in rows))
    print("  ".join([measure.ljust(first), *heads]))
    for name, *numbers in rows:
        cells = ["-" if x is None else f"{x:.6f}" for x in numbers]
        print("  ".join([name.ljust(first), *(c.rjust(len(h)) for c, h in zip(cells, heads, strict=True))]))


def _measure(loss: Loss) -> str:
    return "accuracy" if loss == "accuracy" else "fitness"


# ---------------------------------------------------------------------------------------------- report


def _report(arguments: list[str]) -> int:
    def report(run: Annotated[str, tyro.conf.Positional], /, out: str | None = None) -> int:
        """Prints the best programs of a run, by fitness and by fitness against cost, and writes an HTML page: progress,
        the Pareto front, the best programs, and how the best came about.

        Args:
            run: The folder of a run: ended, under way, or killed.
            out: The file to write; by default report.html in the run's folder.
        """
        from zero_jax import report as reports  # pandas takes half a second to import

        table = reports.hall_of_fame(run)
        file = reports.write(run, out)
        if table.empty:
            print("There is no hall of fame: no hall.json, or nothing in it yet")
        else:
            front = ["*" if on else "" for on in table.pareto]
            columns = ["search_fitness", "select_fitness", "cost", "instructions", "experiment"]
            forms = {"cost": "{:.4f}".format}
            told = table[columns].rename(columns={"search_fitness": "T_search", "select_fitness": "T_select"})
            print(told.assign(front=front).to_string(na_rep="-", float_format="{:.6f}".format, formatters=forms))
        print(f"Written to {file}")
        return 0

    return tyro.cli(report, args=arguments, prog="zero-jax report")


# ---------------------------------------------------------------------------------------------- evaluate, tune, show

_Program = Annotated[str, tyro.conf.Positional]


@dataclasses.dataclass(frozen=True)
class _Tasks:
    """The tasks.

    Attributes:
        task: linear, affine, teacher, digits, synthetic_images; a set of images of tensorflow-datasets (cifar10, mnist,
            fashion_mnist, svhn_cropped, imagenet_resized/32x32, or tfds:NAME); or the path of an NPZ file with train_x,
            train_y, valid_x, valid_y and, if wanted, loss, epochs and classes.
        tasks: How many tasks: 100; 45 of digits and of the sets of images named above.
        features: Features per example: 4; 16 of digits and those sets; 0 for all that an image has.
        train: Training examples per task: 1000; of digits 240, of those sets 8000 (svhn_cropped 7600, imagenet_resized
            1600).
        valid: Validation examples per task: 100; of digits 50, of those sets 1000 (imagenet_resized 200).
        epochs: How often the training examples are seen: once.
        classes: 2 for pairs of classes; more for that many told apart at once.
    """

    task: str = "linear"
    tasks: int | None = None
    features: int | None = None
    train: int | None = None
    valid: int | None = None
    epochs: int | None = None
    classes: int | None = None

    def task_set(self) -> TaskSet:
        fields = dataclasses.asdict(self)
        source = fields.pop("task")
        sizes = {name: n for name, n in fields.items() if n is not None}
        if source.endswith(".npz") and sizes:
            own = "its own numbers of tasks, features, examples, epochs and classes"
            raise ValueError(f"{source} brings {own}: leave --{next(iter(sizes))} out")
        return dataclasses.replace(usual(source), **sizes)


_TaskOptions = Annotated[_Tasks, tyro.conf.arg(name="")]


def _note_other_labels(programs: Programs, vector_labels: bool) -> None:
    for i in np.flatnonzero(for_other_labels(programs, vector_labels)):
        which = "the program" if len(programs) == 1 else f"program {i}"
        told = "s1, these tasks read v2: as softmax_linear" if vector_labels else "v2, these tasks read s1: as linear"
        print(f"zero-jax: note: {which} predicts {told} does", file=sys.stderr)


def _evaluate(arguments: list[str]) -> int:
    def evaluate(
        program: _Program,
        /,
        tasks: _TaskOptions = _Tasks(),
        role: Role = "unseen",
        seed: int = 0,
        executor: str = "auto",
        threads: int = 0,
        max_bytes: int = MAX_BYTES,
    ) -> int:
        """Trains a program on tasks and prints its fitness.

        Args:
            program: linear, network, cifar10, softmax_linear or softmax_network (the last two for more than two
                classes), or a file with a listing, a text proto or JSON.
            tasks: What to train it on.
            role: For images: search takes the 36 class pairs that a search sees, select and unseen the other 9.
            seed: Of the tasks and of random instructions.
            executor: auto, xla, simd or pallas.
            threads: How many threads of a CPU to use; 0 for all cores.
            max_bytes: A bound on the memory that the training takes.
        """
        check_executor(executor)
        programs = library.load(program)
        made = tasks.task_set().make(seed, role)
        _note_other_labels(programs, made.vector_labels)
        result = evaluate_programs(
            programs, made, seed, executor=executor, max_bytes=max_bytes, threads=threads or None
        )
        fitness, steps = np.asarray(result.fitness), np.asarray(result.train_steps)
        print(f"{made}")
        for i in range(len(programs)):
            f = fitness[i]
            error = f"{f.std(ddof=1) / np.sqrt(len(f)):.6f}" if len(f) > 1 else "unknown of one task"
            name = "" if len(programs) == 1 else f"program {i}: "
            mean, median = program_fitness(f[None])[0], program_fitness(f[None], "median")[0]
            print(
                f"{name}mean {_measure(made.loss)} {mean:.6f} (standard error {error}), median {median:.6f}, "
                f"least {f.min():.6f}, greatest {f.max():.6f}; {int(steps[i].sum()):,} train steps"
            )
        return 0

    return tyro.cli(evaluate, args=arguments, prog="zero-jax evaluate")


def _tune(arguments: list[str]) -> int:
    def tune(
        program: _Program,
        /,
        tasks: _TaskOptions = _Tasks(),
        method: tuning.Method = "random",
        evaluations: int = 1000,
        combine: tuning.Combine = "mean",
        seed: int = 0,
        out: Path | None = None,
        executor: str = "auto",
        threads: int = 0,
        max_bytes: int = MAX_BYTES,
    ) -> int:
        """Looks for better constants of a program: each times 0.001 to 1000.

        The fitness is also told on tasks that the tuning did not see: those of role select and of the next seed.

        Args:
            program: linear, network, cifar10, softmax_linear or softmax_network (the last two for more than two
                classes), or a file with one listing, text proto or JSON.
            tasks: What to tune it on.
            method: random search; optuna, which needs pip install 'zero-jax[optuna]'; or gradient, for regression.
            evaluations: How many candidates may be trained; a gradient counts as 5.
            combine: What is to grow: the mean or the median of the fitness on the tasks.
            seed: Of the tasks, of random instructions and of the multipliers.
            out: A file for the listing of the tuned program.
            executor: auto, xla, simd or pallas.
            threads: How many threads of a CPU to use; 0 for all cores.
            max_bytes: A bound on the memory that the training takes.
        """
        if out is not None and (out.is_dir() or not out.parent.is_dir()):
            raise ValueError(f"cannot write {out}: {'it is a folder' if out.is_dir() else f'no folder {out.parent}'}")
        check_executor(executor)
        before, described = library.load(program), tasks.task_set()
        made = described.make(seed, "search")
        _note_other_labels(before, made.vector_labels)
        settings: dict[str, Any] = {"executor": executor, "threads": threads or None, "max_bytes": max_bytes}
        tuned = tuning.tune(before, made, method, evaluations=evaluations, seed=seed, combine=combine, **settings)
        print(
            f"{tuned.evaluations:,} evaluations, {tuned.train_steps:,} train steps, {tuned.seconds:.1f} s\n"
            f"{_measure(made.loss)} on the {len(made)} tasks of the tuning: {tuned.fitness_before:.6f} before, "
            f"{tuned.fitness:.6f} after"
        )
        if not described.source.endswith(".npz"):  # where there are no others
            held_out = described.make(seed + 1, "select")
            both = concatenate([before, tuned.program])
            told = program_fitness(evaluate_programs(both, held_out, seed + 1, **settings).fitness, combine)
            print(f"{_measure(made.loss)} on {len(held_out)} others: {told[0]:.6f} before, {told[1]:.6f} after")
        text = tuned.program.listing(0)
        print(f"\n{text}")
        if out is not None:
            write_atomically(out, f"{text.rstrip()}\n")
            print(f"Written to {out}")
        return 0

    return tyro.cli(tune, args=arguments, prog="zero-jax tune")


def _show(arguments: list[str]) -> int:
    def show(
        program: _Program,
        /,
        form: Literal["listing", "proto", "json"] = "listing",
        prune: bool = False,
        vector_labels: bool = False,
    ) -> int:
        """Prints a program.

        Args:
            program: linear, network, cifar10, softmax_linear or softmax_network (the last two for more than two
                classes), or a file with a listing, a text proto or JSON.
            form: listing, upstream's text proto, or JSON.
            prune: Leave out instructions that can never reach a prediction.
            vector_labels: It is for tasks of more than two classes, where predictions are vectors. A program that
                writes v2 in Predict, and s1 nowhere, is taken to be.
        """
        programs = library.load(program)
        if prune:
            programs = pruned(programs, vector_labels or bool(for_other_labels(programs).all()))
        if form == "json":
            print(listing.to_json(programs))
        else:
            one = listing.listing if form == "listing" else listing.to_proto
            print("\n\n".join(one(programs, i).rstrip() for i in range(len(programs))))
        return 0

    return tyro.cli(show, args=arguments, prog="zero-jax show")


# ---------------------------------------------------------------------------------------------- bench


def _bench(arguments: list[str]) -> int:
    def bench(
        features: tuple[int, ...] = (4, 8, 16, 32),
        executor: str = "auto",
        seconds: float = 1.0,
        json: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False,
    ) -> int:
        """Measures how fast this machine trains programs: the library's 2-layer network on linear tasks of 8,000 +
        1,000 examples, and random programs of the demo's space; on one thread and on all.

        Args:
            features: Numbers of features to measure the network at.
            executor: auto, xla, simd or pallas.
            seconds: How long each of three runs of a measurement should take.
            json: Print JSON instead of a table.
        """
        if not features or min(features) < 1:
            raise ValueError(f"features must be at least 1, not {features}")
        for number in features:
            check_number("features", number)
        if not 0 < seconds < 1e6:
            raise ValueError(f"seconds must be above 0, not {seconds}")
        check_executor(executor)
        found: list[benchmark.Measurement] = []
        for one in benchmark.run(tuple(features), executor=executor, seconds=seconds):
            if not json and not found:  # not above an error
                print(benchmark.HEAD)
            found.append(one)
            if not json:
                print(benchmark.line(one), flush=True)
        about = benchmark.machine() | benchmark.peaks({m.threads for m in found})
        if json:
            print(dumps({"machine": about, "measurements": [one._asdict() for one in found]}, indent=1))
        else:
            print(benchmark.machine_line(about))
        return 0

    return tyro.cli(bench, args=arguments, prog="zero-jax bench")


def _interrupt(number: int, frame: FrameType | None) -> None:
    """Ctrl-C, but a little later where it would meet JAX's callback in the garbage collector: an exception in there
    is printed and lost.
    """
    collecting = frame is not None and frame.f_code.co_name == "_xla_gc_callback"
    if collecting and hasattr(signal, "setitimer"):
        signal.signal(signal.SIGALRM, _interrupt)
        signal.setitimer(signal.ITIMER_REAL, 0.01)
    else:
        raise KeyboardInterrupt


def entry() -> None:
    """What the `zero-jax` command calls."""
    signal.signal(signal.SIGINT, _interrupt)
    try:
        code = main()
        sys.stdout.flush()
    except BrokenPipeError:  # whoever read our output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 1
    except OSError as error:
        code = _fail(f"cannot write the output: {error}")
    if code == INTERRUPTED:
        # JAX may still be computing what was interrupted, and the interpreter would tear down beneath it.
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


if __name__ == "__main__":
    entry()
