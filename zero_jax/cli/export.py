"""`zero-jax export`: a program as code, equations or an explanation."""

from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import tyro

import zero_jax
from zero_jax.cli import options
from zero_jax.cli.options import NO_TASK_OPTIONS, Program, Tasked
from zero_jax.executors.api import evaluate
from zero_jax.executors.fitness import program_fitness
from zero_jax.program import library
from zero_jax.program.memory import Interface
from zero_jax.support.bounds import check_number
from zero_jax.support.files import check_writable, write_atomically
from zero_jax.support.foreign import cut, plain
from zero_jax.use.export import exported
from zero_jax.use.export.words import latex, markdown


def export_command(
    program: Program,
    /,
    to: Literal["numpy", "jax", "latex", "markdown"] = "numpy",
    tasks: Tasked = NO_TASK_OPTIONS,
    seed: int = 0,
    out: Annotated[Path | None, tyro.conf.arg(metavar="FILE", help_behavior_hint="")] = None,
) -> int:
    """Writes a program as others can use it: a module that needs NumPy or JAX alone, equations, or an explanation.

    The tasks say what the program predicts, numbers or classes, and its fitness on them is noted.

    Args:
        program: As `Program` says.
        to: numpy, a class with fit and predict; jax, pure functions; latex, numbered equations; or markdown, what each
            instruction computes and how much fitness is lost without it.
        tasks: The tasks that the program is for.
        seed: Random seed of the tasks and of random instructions, from 0 to 2**64 - 1.
        out: The file to write to (default: print).
    """
    check_number("seed", seed)
    if out is not None:
        check_writable(out)
    loaded = library.load(program)
    if len(loaded) != 1:
        raise ValueError(f"{cut(program)} holds {len(loaded)} programs; export takes one")
    made = tasks.task_set().make(seed, "unseen")
    options.note_other_labels(loaded, made)
    fitness = program_fitness(np.asarray(evaluate(loaded, made, seed).fitness))[0]
    scored = f"a mean {options.measure(made.loss)} of {fitness:.4f} on {made!r}"
    about = f"The program {plain(program.splitlines()[0])}, with {scored}, by zero-jax {zero_jax.__version__}."
    if to == "latex":
        text = latex(loaded, Interface.of(loaded.memory, made))
    elif to == "markdown":
        text = markdown(loaded, made, seed, about)
    else:
        text = exported(loaded, to, made.classes, about.replace('"', "'").replace("\\", "/"))  # inside a docstring
    if out is None:
        print(text.rstrip())
    else:
        write_atomically(out, f"{text.rstrip()}\n")
        print(f"Written to {plain(out)}")
    return 0


def export(arguments: list[str]) -> int:
    """Runs the command; returns the exit code."""
    options.note_other_tasks(arguments)
    return options.parsed(export_command, arguments, prog="zero-jax export")
