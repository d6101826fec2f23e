"""Options that several commands share."""

import contextlib
import dataclasses
import functools
import importlib
import inspect
import io
import os
import re
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro

from zero_jax.program.canonical import for_other_labels
from zero_jax.program.memory import Interface
from zero_jax.program.programs import Programs
from zero_jax.run.config_file import CONFIG, config_of
from zero_jax.support.foreign import cut, plain, shown
from zero_jax.tasks import Loss, Tasks
from zero_jax.tasks.sets import TaskSet, usual

Program = Annotated[
    str,
    tyro.conf.Positional,
    tyro.conf.arg(
        metavar="PROGRAM",
        help="linear, network, cifar10, softmax_linear or softmax_network (the last two for more than two classes), a "
        "file with a listing, protobuf text or JSON, or the folder of a run, for its best program.",
    ),
]

Size = Annotated[int | None, tyro.conf.arg(help_behavior_hint="")]
"""A number whose default depends on the tasks: its help says how."""

_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}
_MISFIT = re.compile(r"Error parsing searcher\.([\w.-]+): +(.*?) +[─-]{3}")
_DURATION = re.compile(r"(?:[0-9]{1,9}(?:\.[0-9]{1,9})?[smhd]){1,4}|[0-9]{1,9}(?:\.[0-9]{1,9})?")


def number(text: str, kind: type[int | float], name: str = "") -> int | float:
    """A number from the command line.

    Raises:
      ValueError: anything else.

    Example:
      >>> number("1e3", int, "--trials")
      Traceback (most recent call last):
      ValueError: --trials must be a whole number, not '1e3'
    """
    try:
        return kind(text)
    except ValueError:
        what = "whole number" if kind is int else "number"
        raise ValueError(f"{name} must be a {what}, not {shown(text)}".strip()) from None


_NUMBERS = tyro.constructors.ConstructorRegistry()


@_NUMBERS.primitive_rule
def _number(option: tyro.constructors.PrimitiveTypeInfo) -> tyro.constructors.PrimitiveConstructorSpec[Any] | None:
    """Reads numbers as tyro does, but explains what is wrong without Python's terms. None is a default, not a word."""
    kinds = [kind for kind in (int, float) if option.type in (kind, kind | None)]
    if not kinds:
        return None
    kind: Any = kinds[0]
    return tyro.constructors.PrimitiveConstructorSpec(
        nargs=1,
        metavar=kind.__name__.upper(),
        instance_from_str=lambda words: number(words[0], kind),
        is_instance=lambda value: isinstance(value, int | option.type),
        str_from_instance=lambda value: [str(value)],
    )


@dataclasses.dataclass(frozen=True)
class TaskOptions:
    """The tasks.

    Attributes:
        task: linear, affine, teacher, digits, synthetic_images; an image set of tensorflow-datasets (cifar10, mnist,
            fashion_mnist, svhn_cropped, imagenet_resized/32x32, or tfds:NAME); images:PATH, an image set on disk (IDX,
            NPZ, pictures or Parquet); or the path of an NPZ file with train_x, train_y, valid_x, valid_y and,
            optionally, loss, epochs and classes.
        tasks: Number of tasks (default: 100; 45 for digits and the image sets above).
        features: Features per example (default: 4; 16 for digits and the image sets above); 0 for all pixels of an
            image.
        train: Training examples per task (default: 1000; 240 for digits; 8000 for the image sets above, but 7600 for
            svhn_cropped and 1600 for imagenet_resized).
        valid: Validation examples per task (default: 100; 50 for digits; 1000 for the image sets above, but 200 for
            imagenet_resized).
        epochs: Number of passes over the training examples (default: 1).
        classes: Classes per task: 2 for pairs of classes (default), more for multi-class tasks.
    """

    task: str = "linear"
    tasks: Size = None
    features: Size = None
    train: Size = None
    valid: Size = None
    epochs: Size = None
    classes: Size = None

    def task_set(self) -> TaskSet:
        """What they describe."""
        fields = dataclasses.asdict(self)
        source = fields.pop("task")
        sizes = {name: n for name, n in fields.items() if n is not None}
        if TaskSet(source).is_own and sizes:
            raise ValueError(
                f"--{next(iter(sizes))} cannot be used with {shown(source)}: the file sets the number of tasks, "
                "features, examples, epochs and classes"
            )
        return dataclasses.replace(usual(source), **sizes)


NO_TASK_OPTIONS = TaskOptions()
"""For defaults."""

Tasked = Annotated[TaskOptions, tyro.conf.arg(name="")]


def options_of(described: TaskSet) -> list[str]:
    """The options that give those tasks."""
    words, common = ["--task", described.source], usual(described.source)
    if not described.is_own:
        for field in dataclasses.fields(TaskOptions)[1:]:
            value = getattr(described, field.name)
            words += [f"--{field.name}", str(value)] if value != getattr(common, field.name) else []
    return words


def measure(loss: Loss) -> str:
    """What fitness is called."""
    return "accuracy" if loss == "accuracy" else "fitness"


def note_other_labels(programs: Programs, tasks: Tasks) -> None:
    """Says which programs do not predict what these tasks read."""
    interface = Interface.of(programs.memory, tasks)
    for i in np.flatnonzero(for_other_labels(programs, interface)):
        which = "the program" if len(programs) == 1 else f"program {i}"
        reads = (
            "s1, these tasks read v2: as softmax_linear"
            if interface.is_vector
            else "v2, these tasks read s1: as linear"
        )
        print(f"zero-jax: note: {which} predicts {reads} does", file=sys.stderr)


def note_other_tasks(arguments: Sequence[str]) -> None:
    """Says so where the program comes from a run on other tasks than those taken by default."""
    folder = next((word for word in arguments if os.path.isfile(os.path.join(word, CONFIG))), None)
    if folder is None or any(word.partition("=")[0] == "--task" for word in arguments):
        return
    try:
        tasks = config_of(folder)["tasks"]
        seen = tasks["search"]["source"]
        words = options_of(TaskSet(**tasks["unseen"]))
    except (ValueError, KeyError, TypeError):  # of another schema, or damaged: its program may be whole
        return
    if seen != NO_TASK_OPTIONS.task:
        if Path(words[1]).name == words[1] and words[1].endswith(".npz"):  # tasks that came without a file
            words[1] = str(Path(folder) / words[1])
        used = f"was searched on {plain(seen)} tasks; these are {NO_TASK_OPTIONS.task}"
        print(
            f"zero-jax: note: {plain(folder)} {used}. For the run's own, add: {plain(shlex.join(words))}",
            file=sys.stderr,
        )


def parsed(described: Any, arguments: Sequence[str], **how: Any) -> Any:
    """`tyro.cli`, whose messages repeat arguments as they are: here they are cut, and escaped, where need be.

    Raises:
      ValueError: settings of the searcher that do not fit together; tyro would call them by its own name.
    """
    how |= {"config": (tyro.conf.FlagCreatePairsOff,), "registry": _NUMBERS}
    printed = io.StringIO()
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(printed):
            made = tyro.cli(_delayed(described), args=arguments, **how)
    except SystemExit:
        _refuse_settings(printed.getvalue())
        tyro.cli(_delayed(described), args=[cut(word) for word in arguments], **how)  # the same message, or the help
        print(plain(printed.getvalue(), lines=True), file=sys.stderr)  # what is escaped would be fine
        raise
    return made() if inspect.isfunction(described) else made


def _refuse_settings(printed: str) -> None:
    """Raises tyro's message about a group of settings, with the names of options."""
    text = " ".join(line.strip("│| ") for line in printed.splitlines())
    match = _MISFIT.search(text)
    if match:
        group, message = match[1], match[2]
        if group.startswith("space.") and group != "space.memory":
            group += ".ops" if message.startswith("unknown op") else ".size"
        else:
            group += ".*"
        raise ValueError(f"--{group}: {plain(message)}")


def _delayed(described: Any) -> Any:
    """A function that only takes note of its arguments; types as they are."""
    if not inspect.isfunction(described):
        return described

    @functools.wraps(described)
    def noted(*args: Any, **named: Any) -> Any:
        return functools.partial(described, *args, **named)

    return noted


def taken(
    arguments: Sequence[str], flags: Sequence[str] = (), valued: Sequence[str] = ()
) -> tuple[list[str], dict[str, str]]:
    """Arguments without some options, and these by name: a flag with an empty text, others with the text behind them.

    Raises:
      ValueError: an option without its value, or given twice.
    """
    rest: list[str] = []
    values: dict[str, str] = {}
    left = list(arguments)
    while left:
        word = left.pop(0)
        name, equals, value = word.partition("=")
        if (name not in valued) and (word not in flags):
            rest.append(word)
            continue
        if name in values:
            raise ValueError(f"{name} is given twice")
        if name in valued and not equals:
            if not left or left[0].startswith("--"):
                raise ValueError(f"{name} needs a value")
            value = left.pop(0)
        values[name] = value
    return rest, values


def imported(arguments: Sequence[str]) -> list[str]:
    """Arguments without `--import MODULE`, which is imported: it may register searchers.

    Raises:
      ValueError: a module that cannot be imported.
    """
    rest, given = taken(arguments, valued=["--import"])
    if given:
        name = given["--import"]
        if name.endswith(".py"):
            raise ValueError(
                f"--import {shown(name)}: give the name of the module, without .py, as in "
                f"--import {cut(Path(name).stem)}; its folder must be the current one or on PYTHONPATH"
            )
        sys.path.insert(0, "")  # the folder where the command is called, as with python -m
        try:
            importlib.import_module(name)
        except Exception as error:
            raise ValueError(f"--import {shown(name)}: {type(error).__name__}: {error}") from None
        finally:
            sys.path.remove("")
    return rest


def seconds(text: str) -> float:
    """A time in seconds, from 90, 90s, 10m, 1h30m or 2d.

    Raises:
      ValueError: anything else.

    Example:
      >>> seconds("1h30m"), seconds("2.5")
      (5400.0, 2.5)
    """
    if not _DURATION.fullmatch(text):
        raise ValueError(f"--time-limit must be a time as in 90, 90s, 10m or 1h30m, not {shown(text)}")
    parts = re.findall(r"([0-9.]+)([smhd]?)", text)
    return float(sum(float(number) * _UNITS[unit] for number, unit in parts))
