"""The identity of a run: the settings and the data that its results depend on.

A run is resumed only if both are as they were when it began, so that fitness is only ever compared with fitness on the
same data.
"""

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from zero_jax.tasks import Tasks

EXTENDABLE = ("schedule.train_steps", "schedule.trials", "schedule.time_limit")
"""Settings that say when a run ends: a run may be extended by raising them."""

HARMLESS = (
    *("output.out", "output.checkpoint_seconds", "output.tensorboard"),
    *("schedule.threads", "schedule.devices", "evaluation.max_bytes"),
)
"""Settings that results do not depend on."""

SHOWN = 60
"""How many characters of a setting's value a message shows."""


@dataclasses.dataclass(frozen=True)
class Identity:
    """What the results of a run depend on.

    Attributes:
      settings: all settings by name, those of nested groups as in `space.memory`, but for the harmless ones.
      data: a digest of the tasks of each role.
    """

    settings: Mapping[str, Any]
    data: Mapping[str, str]

    @classmethod
    def of(cls, described: Mapping[str, Any], tasks: Mapping[str, Sequence[Tasks]]) -> "Identity":
        """That of a config as `RunConfig.tree` gives it, and of the tasks that it makes."""
        return cls(
            _settings(described), {role: "+".join(one.digest() for one in those) for role, those in tasks.items()}
        )

    def digest(self) -> str:
        """A hash of all of it."""
        text = json.dumps([self.settings, self.data], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def tree(self) -> dict[str, Any]:
        """As plain values."""
        return {"settings": dict(self.settings), "data": dict(self.data)}


def settings_digest(described: Mapping[str, Any]) -> str:
    """A hash of the settings that results depend on, and of those that say when the run ends."""
    return Identity(_settings(described), {}).digest()


def changes(now: Mapping[str, Any], before: Mapping[str, Any]) -> list[str]:
    """What differs between two settings, in words; extendable ones count."""
    names = [name for name in {**before, **now} if now.get(name) != before.get(name)]
    return [f"{name} is {_shown(now.get(name))}, and was {_shown(before.get(name))}" for name in names]


def binding(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings without those that may be extended."""
    return {name: value for name, value in settings.items() if name not in EXTENDABLE}


def _shown(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."


def _settings(described: Mapping[str, Any]) -> dict[str, Any]:
    """Flat, as JSON gives them back."""
    flat: dict[str, Any] = {}

    def walk(prefix: str, settings: Mapping[str, Any]) -> None:
        for name, value in settings.items():
            if isinstance(value, Mapping):
                walk(f"{prefix}{name}.", value)
            elif prefix + name not in HARMLESS:
                flat[prefix + name] = value

    walk("", json.loads(json.dumps(described)))
    return flat
