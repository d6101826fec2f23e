"""A run's config as options: groups as tyro shows them, named by their fields alone."""

import dataclasses
import functools
import typing
from typing import Annotated, Any

import tyro

from zero_jax.run import searchers
from zero_jax.run.config import GROUP_TYPES, GROUPS, OPTIONS, RunConfig
from zero_jax.tasks.sets import TaskSet

_NAMES = {place: name for name, place in OPTIONS.items()}

_OTHER_ROLES = ("select", "unseen")

_OTHER_TASKS = dataclasses.make_dataclass(
    "TaskSet",
    [
        (
            field.name,
            Annotated[
                typing.get_type_hints(TaskSet)[field.name], tyro.conf.arg(help=f"As --search-tasks.{field.name}.")
            ],
            dataclasses.field(default=field.default),
        )
        for field in dataclasses.fields(TaskSet)
    ],
    bases=(TaskSet,),
    frozen=True,
)
"""T_select and unseen tasks: the help explains their options once, at T_search."""


def filled_in(config: RunConfig) -> Any:
    """A config as an object whose fields are options; not checked before `config_of` makes a config of it."""
    groups = {name: getattr(config, name) for name in GROUPS} | {"searcher": searchers.in_form(config.searcher)}
    kinds = {name: _options(GROUP_TYPES.get(name, type(one)), name) for name, one in groups.items()}
    fields: list[Any] = [(field.name, kinds.get(field.name, field.type)) for field in dataclasses.fields(RunConfig)]
    kind = dataclasses.make_dataclass(
        "RunConfig", fields, bases=(RunConfig,), frozen=True, namespace={"__post_init__": lambda self: None}
    )
    fields_of = {name: _values(one) for name, one in groups.items()}
    fields_of["tasks"] = _values_of_tasks(config.tasks, _OTHER_TASKS)
    values = {name: kinds[name](**one) for name, one in fields_of.items()}
    return kind(name=config.name, seed=config.seed, **values)


def config_of(filled: Any) -> RunConfig:
    """The inverse of `filled_in`.

    Raises:
      ValueError: invalid settings.
    """
    fields_of = {name: _values(getattr(filled, name)) for name in GROUP_TYPES}
    fields_of["tasks"] = _values_of_tasks(filled.tasks, TaskSet)
    groups = {name: kind(**fields_of[name]) for name, kind in GROUP_TYPES.items()}
    return RunConfig(filled.name, searcher=searchers.from_form(filled.searcher), seed=filled.seed, **groups)


def _values(group: Any) -> dict[str, Any]:
    return {field.name: getattr(group, field.name) for field in dataclasses.fields(group) if field.init}


def _values_of_tasks(group: Any, kind: Any) -> dict[str, Any]:
    """The values of `TaskConfig`, with T_select and unseen tasks of that class."""
    return _values(group) | {role: kind(**_values(getattr(group, role))) for role in _OTHER_ROLES}


@functools.cache
def _options(kind: Any, group: str) -> Any:
    """A group's class with fields that are options without the group's name."""
    hints = typing.get_type_hints(kind)
    fields: list[Any] = []
    for field in dataclasses.fields(kind):
        if field.init:
            name = tyro.conf.arg(name=_NAMES.get((group, field.name), field.name), prefix_name=False)
            default = {} if field.default is dataclasses.MISSING else {"default": field.default}
            hint = _OTHER_TASKS if field.name in _OTHER_ROLES else hints[field.name]
            fields.append((field.name, Annotated[hint, name], dataclasses.field(**default)))
        else:
            fields.append(
                (field.name, Annotated[None, tyro.conf.Suppress], dataclasses.field(default=None, init=False))
            )
    unchecked = {"__post_init__": lambda self: None}
    return dataclasses.make_dataclass(kind.__name__, fields, bases=(kind,), frozen=True, namespace=unchecked)
