"""A search from start to finish: `run(config)`, and `resume(folder)`.

Names are imported when they are asked for.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zero_jax.run.api import resume as resume
    from zero_jax.run.api import run as run
    from zero_jax.run.config import EvaluationConfig as EvaluationConfig
    from zero_jax.run.config import OutputConfig as OutputConfig
    from zero_jax.run.config import RunConfig as RunConfig
    from zero_jax.run.config import ScheduleConfig as ScheduleConfig
    from zero_jax.run.config import TaskConfig as TaskConfig
    from zero_jax.run.outcome import Outcome as Outcome
    from zero_jax.run.outcome import Progress as Progress
    from zero_jax.run.presets import PRESETS as PRESETS
    from zero_jax.run.progress import progress_bar as progress_bar

_MODULES = {
    "EvaluationConfig": "config",
    "Outcome": "outcome",
    "OutputConfig": "config",
    "PRESETS": "presets",
    "Progress": "outcome",
    "RunConfig": "config",
    "ScheduleConfig": "config",
    "TaskConfig": "config",
    "progress_bar": "progress",
    "resume": "api",
    "run": "api",
}
"""Where each public name comes from."""

__all__ = [
    "PRESETS",
    "EvaluationConfig",
    "Outcome",
    "OutputConfig",
    "Progress",
    "RunConfig",
    "ScheduleConfig",
    "TaskConfig",
    "progress_bar",
    "resume",
    "run",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
