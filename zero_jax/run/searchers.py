"""Searchers as settings: by the name of a method, as plain values, and with one method in place of another."""

import dataclasses
import functools
import typing
from collections.abc import Mapping
from typing import Any, Literal, cast

from zero_jax.search import SEARCHERS, Islands
from zero_jax.support.foreign import described_by, shown

_FILLED_IN = ("interface",)
"""Fields that are no settings: the run fills them in."""


class UnknownMethodError(ValueError):
    """A method that no searcher has registered yet."""


def searcher_class(method: str) -> type:
    """The class of a method.

    Raises:
      UnknownMethodError: an unknown method.
    """
    if method not in SEARCHERS:
        raise UnknownMethodError(
            f"unknown method {shown(method)} (known: {', '.join(SEARCHERS)}). If it is your own searcher, import its "
            "module: --import MODULE"
        )
    return SEARCHERS[method]


def method_of(searcher: Any) -> str:
    """The name of a searcher's method.

    Raises:
      ValueError: a searcher that is not registered: a run could not be resumed without its name.

    Example:
      >>> from zero_jax.run.presets import PRESETS
      >>> method_of(PRESETS["demo"][1].searcher)
      'evolution'
    """
    for name, kind in SEARCHERS.items():
        if type(searcher) is kind:
            return name
    raise ValueError(
        f"searcher must be of a registered class ({', '.join(SEARCHERS)}), not {type(searcher).__name__}: decorate the "
        "class with @zero_jax.search.register(NAME)"
    )


def settings(searcher: Any) -> list[str]:
    """The names of a searcher's own settings."""
    return [field.name for field in dataclasses.fields(searcher) if field.name not in _FILLED_IN]


def with_method(searcher: Any, method: str, **changes: Any) -> Any:
    """A searcher of another method, with the settings that both have, but for some changes.

    One without islands asks for as many programs at a time as all islands would.

    Example:
      >>> from zero_jax.run.presets import PRESETS
      >>> with_method(PRESETS["demo"][1].searcher, "random").cohort
      2000
    """
    kind: Any = searcher_class(method)
    if type(searcher) is kind:
        return dataclasses.replace(searcher, **changes)
    names = settings(kind)
    shared = {name: getattr(searcher, name) for name in settings(searcher) if name in names}
    if "cohort" in shared and "islands" not in names:
        shared["cohort"] *= islands(searcher)
    return kind(**kind.adapted(shared | changes))


def islands(searcher: Any) -> int:
    """How many islands a searcher has; one that has none counts as one."""
    return getattr(searcher, "islands", 1)


def generation(searcher: Any) -> int:
    """How many programs a population has, or else a cohort."""
    return islands(searcher) * getattr(searcher, "population", getattr(searcher, "cohort", 1))


def part(searcher: Any, count: int) -> Any:
    """The searcher of one of `count` equal parts of the islands; without islands, each part is a search of its own."""
    return searcher.part(count) if count > 1 and isinstance(searcher, Islands) else searcher


def form(kind: type) -> type:
    """The settings of a class as the command line and JSON have them: plain values, not checked, and `method`.

    It inherits from the class, so that docstrings, names and defaults are those of the class.
    """
    return _form(cast(Any, kind), tuple(SEARCHERS))


@functools.cache
def _form(kind: Any, methods: tuple[str, ...]) -> type:
    hints = typing.get_type_hints(kind, include_extras=True)
    method = next(name for name, one in SEARCHERS.items() if one is kind)
    fields: list[Any] = [
        (field.name, str, dataclasses.field(default=cast(Any, field.default)))
        for field in dataclasses.fields(kind)
        if field.name == "initial"
    ]
    for field in dataclasses.fields(kind):
        if field.name in _FILLED_IN:
            fields.append((field.name, type(None), dataclasses.field(default=None, init=False)))
        elif field.name != "initial":
            default = {"default": field.default} if field.default is not dataclasses.MISSING else {}
            fields.append((field.name, hints[field.name], dataclasses.field(**cast(Any, default))))
    fields.append(("method", Literal[methods], method))
    doc = "Settings of a searcher.\n\nAttributes:\n  method: The search method; the other options here depend on it."
    return dataclasses.make_dataclass(
        kind.__name__,
        fields,
        bases=(kind,),
        frozen=True,
        namespace={"__post_init__": lambda self: None, "__doc__": doc},
    )


def in_form(searcher: Any) -> Any:
    """A searcher's settings, in the form of its class."""
    kind: Any = form(type(searcher))
    return kind(**{name: getattr(searcher, name) for name in settings(searcher)}, method=method_of(searcher))


def from_form(filled: Any) -> Any:
    """The inverse of `in_form`.

    Raises:
      ValueError: settings that the searcher refuses.
    """
    kind = searcher_class(filled.method)
    return kind(**{name: getattr(filled, name) for name in settings(kind)})


def tree(searcher: Any) -> dict[str, Any]:
    """A searcher's method and settings as plain values."""
    own = dataclasses.asdict(searcher)
    return {"method": method_of(searcher)} | {name: own[name] for name in settings(searcher)}


def from_tree(stored: Any) -> Any:
    """The inverse of `tree`, from JSON.

    Raises:
      ValueError: an unknown method, or settings that do not fit it.
    """
    if not isinstance(stored, Mapping) or not isinstance(stored.get("method"), str):
        raise ValueError("searcher has no method")
    return from_form(described_by(form(searcher_class(stored["method"])), stored))
