"""`zero-jax completion`: a script with which a shell completes commands and options."""

from typing import Annotated, Any, Literal

import tyro

from zero_jax.cli import bench, benchmark, export, options, programs, report, tables
from zero_jax.cli.search import presets
from zero_jax.cli.streams import captured

Shell = Literal["bash", "zsh", "fish"]


def completion_command(shell: Annotated[Shell, tyro.conf.Positional], /) -> int:
    """Prints a script that completes commands and options of zero-jax.

    For bash: eval "$(zero-jax completion bash)". For zsh: zero-jax completion zsh > ~/.zfunc/_zero-jax, where ~/.zfunc
    is in fpath.

    Args:
        shell: bash, zsh or fish.
    """
    print(_script(shell))
    return 0


def completion(arguments: list[str]) -> int:
    """Runs the command; returns the exit code."""
    return options.parsed(completion_command, arguments, prog="zero-jax completion")


def _script(shell: Shell) -> str:
    commands = {
        "search": _search(),
        "resume": _resume,
        "report": report.report_command,
        "watch": report.watch_command,
        "evaluate": programs.evaluate_command,
        "tune": programs.tune_command,
        "show": programs.show_command,
        "export": export.export_command,
        "fit": tables.fit_command,
        "predict": tables.predict_command,
        "bench": bench.bench_command,
        "benchmark": benchmark.benchmark_command,
        "completion": completion_command,
    }
    with captured() as printed:
        tyro.extras.subcommand_cli_from_dict(
            commands,
            prog="zero-jax",
            args=["--tyro-print-completion", shell],
            config=(tyro.conf.FlagCreatePairsOff,),
        )
    return printed.getvalue()


def _resume(run: str, /, train_steps: int, trials: int, time_limit: str, ray: str, quiet: bool) -> None:
    """Resume a run."""


def _search() -> Any:
    """The command as one function, options that are read before tyro sees the others included."""

    def search(preset: Any, resume: str, ray: str, quiet: bool) -> None:
        """Search for a program, or resume a run."""

    search.__annotations__ |= {"preset": Annotated[presets(), tyro.conf.arg(name="")]}
    return search
