"""The command line: `zero-jax COMMAND ...`.

What it imports at once takes no time, so that signals are handled from the first moment on; one that meets an import of
compiled code may be lost in there.
"""

import importlib
import os
import re
import sys
import warnings
from collections.abc import Callable, Sequence
from typing import Any

from zero_jax.cli import streams
from zero_jax.support import stopping

BAD_INPUT = 2

_LONGEST = 2000
"""A message has no more characters than these."""

COMMANDS = {
    "search": "search",
    "resume": "search",
    "report": "report",
    "watch": "report",
    "evaluate": "programs",
    "tune": "programs",
    "show": "programs",
    "export": "export",
    "fit": "tables",
    "predict": "tables",
    "bench": "bench",
    "benchmark": "benchmark",
    "completion": "completion",
}
"""The commands, each a function of that name in a module of this package."""

_USAGE = """usage: zero-jax COMMAND ...

commands:
  search PRESET     search for a program: {presets}
  resume RUN        resume a run, given its folder, from its last checkpoint.
                    --train-steps, --trials and --time-limit extend it
  search table --data FILE --target COLUMN
                    search for a learning algorithm on your own data; writes a model
  search ... --ray [ADDRESS]
                    share the islands among Ray workers (--workers says how many):
                    on this machine, or on the cluster at HOST:PORT
  search ... --import MODULE
                    import a module first, e.g. one that registers a searcher
                    (also for resume, report and watch)
  report RUN        write an HTML page about a run; print its best programs
  watch RUN         show that page in a browser while the run goes on
  evaluate PROGRAM  train a program on tasks and print its fitness
  tune PROGRAM      tune a program's constants
  show PROGRAM      print a program as a listing, protobuf text or JSON; --graph draws it
  export PROGRAM    write a program as NumPy or JAX code, equations or an explanation
  fit PROGRAM --data FILE --target COLUMN --out MODEL
                    train a program on a table
  predict MODEL --data FILE --out FILE
                    apply a model to the rows of a table
  bench             measure how fast this machine trains programs
  benchmark TABLE   compare searchers on a table of a small space, in seconds
  completion SHELL  print a shell completion script (bash, zsh or fish)

options:
  --version         print the version
  --quiet           hide progress (search and tune)

'zero-jax COMMAND --help' lists a command's options."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command; returns the exit code: 0, 2 for bad input, 130 after Ctrl-C, 143 after SIGTERM or SIGHUP."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    with stopping.handled() as stop, warnings.catch_warnings():
        warnings.simplefilter("always", UserWarning)
        warnings.showwarning = _note
        try:
            return _main(given, stop)
        except KeyboardInterrupt:
            streams.say("interrupted")
            return stop.exit_code
        except BrokenPipeError:
            raise
        except OSError as error:
            is_output = error.errno is not None and error.filename is None  # files have names
            return fail(f"{'cannot write the output: ' * is_output}{_short(error)}")
        except ValueError as error:
            return fail(_short(error))
        except MemoryError as error:
            return fail(f"not enough memory for that: {_short(error)}")


def _main(given: list[str], stop: stopping.Stop) -> int:
    if given[:1] == ["--quiet"] and given[1:2] != ["--quiet"]:
        given = [*given[1:2], "--quiet", *given[2:]]
    if given[:1] == ["--version"]:
        print(f"zero-jax {_loaded(stop, 'zero_jax').__version__}")
        return 0
    if given[:1] in (["-h"], ["--help"]):
        print(_usage(stop))
        return 0
    if not given or given[0] not in COMMANDS:
        usage, shown = _usage(stop), _loaded(stop, "zero_jax.support.foreign").shown
        return fail(f"unknown command {shown(given[0])}\n{usage}" if given else f"no command given\n{usage}")
    command: Callable[[list[str]], int] = getattr(_loaded(stop, f"zero_jax.cli.{COMMANDS[given[0]]}"), given[0])
    return command(given[1:])


def _loaded(stop: stopping.Stop, module: str) -> Any:
    """A module, imported without an interruption halfway."""
    with stop.deferred(None):
        loaded = importlib.import_module(module)
    if stop.signal:  # before, and lost
        raise KeyboardInterrupt
    return loaded


def _usage(stop: stopping.Stop) -> str:
    return _USAGE.format(presets=", ".join(_loaded(stop, "zero_jax.run.presets").PRESETS))


def _short(error: Exception) -> str:
    """What an error says, without its number; names of files can be of any length."""
    text = re.sub(r"^\[Errno -?[0-9]+\] ", "", str(error))
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


def fail(message: str) -> int:
    """Says what was wrong; returns the exit code."""
    streams.say(f"zero-jax: {message}")
    return BAD_INPUT


def _note(message: Warning | str, *_: Any, **__: Any) -> None:
    streams.say(f"zero-jax: note: {message}")


def entry() -> None:
    """What the `zero-jax` command calls."""
    with stopping.handled() as stop:
        try:
            streams.make_safe()
            code = main()
            sys.stdout.flush()
        except BrokenPipeError:  # the reader of our output has seen enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            code = 1
        except KeyboardInterrupt:
            code = stop.exit_code
        except OSError as error:
            code = fail(f"cannot write the output: {error}")
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if stop.signal:
            # JAX may still be computing what was interrupted, and the interpreter would tear down beneath it.
            streams.flush()
            os._exit(code)
    sys.exit(code)
