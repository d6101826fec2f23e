"""Objects as trees for `files.packed` and back, by the type hints of their dataclasses and named tuples.

Nothing is pickled, and everything is checked before it comes back: compiled loops index with it. Neither cattrs nor
msgspec can state the dtype and shape of an array, and msgspec's integers end at 64 bits, where those of a random
generator have 128.

A hint may be int, float, bool, str, None, a Literal of texts, a tuple, a union with None, a dataclass, a named tuple,
an array with an `Array`, a `Part`, or a class that was registered. `Annotated` adds a `Range`, a `Length` or another
`Coder`.
"""

import dataclasses
import functools
import math
import types
from collections.abc import Callable
from typing import Annotated, Any, Literal, NamedTuple, Protocol, TypeVar, Union, get_args, get_origin, get_type_hints

import numpy as np

from zero_jax.support import checked
from zero_jax.support.checked import shown

T = TypeVar("T")


@dataclasses.dataclass
class Known:
    """What is known while an object is decoded.

    Attributes:
      axes: the lengths of its axes, and of those of the objects that hold it, by letter.
      shared: what all objects in the tree agree on, by name; as the layout of programs.
    """

    axes: dict[str, int]
    shared: dict[str, Any]

    def length(self, axis: int | str | None) -> int | None:
        """Of an axis: a number, a letter, or a product as in `I*P`; None while it is not known."""
        if not isinstance(axis, str):
            return axis
        lengths = [self.axes.get(letter) for letter in axis.split("*")]
        return None if None in lengths else math.prod(n for n in lengths if n is not None)

    def decode(self, hint: Any, tree: Any, where: str) -> Any:
        """An object that agrees on what is shared, and has axes of its own."""
        return _coder(hint).decode(tree, where, Known({}, self.shared))


class Coder(Protocol):
    """Turns one kind of value into a tree and back."""

    def encode(self, value: Any) -> Any:
        """A tree of dicts, lists, arrays, numbers, texts and None."""

    def decode(self, tree: Any, where: str, known: Known) -> Any:
        """The inverse; raises ValueError for anything else, naming the place (`where`)."""


# ---------------------------------------------------------------------------------------------- notes beside a hint


@dataclasses.dataclass(frozen=True)
class Array:
    """An array of one dtype and shape; it is copied in C order.

    Attributes:
      dtype: of the array.
      shape: of each axis a letter, a product of letters as in `I*P`, a number, or None for any length. A letter means
        the same length everywhere in an object and in the objects that it holds.
      least, most: the range of its values.
      below: an axis whose length all values are below.
      finite: whether all values must be finite.

    Example:
      >>> from typing import NamedTuple
      >>> class Pair(NamedTuple):
      ...     fitness: Annotated[np.ndarray, Array(np.float64, ("I", "P"))]
      ...     oldest: Annotated[np.ndarray, Array(np.int64, ("I",), least=0, below="P")]
      >>> tree = encode(Pair(np.zeros((2, 3)), np.array([0, 3])))
      >>> decode(Pair, tree, "state")
      Traceback (most recent call last):
      ValueError: state.oldest has 3, more than 2
    """

    dtype: Any
    shape: tuple[int | str | None, ...]
    least: float | None = None
    most: float | None = None
    below: str | None = None
    finite: bool = True

    def encode(self, value: Any) -> Any:
        """The array."""
        return np.asarray(value)

    def bind(self, tree: Any, axes: dict[str, int]) -> None:
        """Learns the lengths of axes from an array."""
        if isinstance(tree, np.ndarray) and tree.ndim == len(self.shape):
            for axis, length in zip(self.shape, tree.shape, strict=True):
                if isinstance(axis, str) and "*" not in axis:
                    axes.setdefault(axis, length)

    def decode(self, tree: Any, where: str, known: Known) -> np.ndarray:
        """A checked copy."""
        shape = tuple(map(known.length, self.shape))
        finite = self.finite and np.dtype(self.dtype).kind == "f"
        return checked.array(tree, where, self.dtype, shape, self.least, _most(self, known), finite)


@dataclasses.dataclass(frozen=True)
class Range:
    """The range of a number.

    Attributes:
      least, most: its ends.
      below: an axis whose length it is below.
      finite: whether a float must be finite; NaN is refused in any case, and infinity outside its ends.
    """

    least: float | None = None
    most: float | None = None
    below: str | None = None
    finite: bool = True


@dataclasses.dataclass(frozen=True)
class Length:
    """How many items a tuple, or programs a batch, must have: an axis as in `Array`."""

    axis: int | str


class Part(NamedTuple):
    """A part of a tree that its owner encodes and decodes: its class depends on settings, or it is seldom needed.

    Attributes:
      tree: the part, unchecked.
      where: what errors call it; set by `decode`.
    """

    tree: Any
    where: str = "it"


Count = Annotated[int, Range(0)]
"""A whole number from 0 on."""


def _most(limits: Array | Range, known: Known) -> float | None:
    length = known.length(limits.below)
    return limits.most if length is None else length - 1


# ---------------------------------------------------------------------------------------------- in and out


def encode(value: Any, hint: Any = None) -> Any:
    """A tree of dicts, lists, arrays, numbers, texts and None, as `files.packed` takes it.

    Args:
      value: an object of a class that the module's docstring allows.
      hint: its type hint, by default its class.

    Example:
      >>> from typing import NamedTuple
      >>> class Progress(NamedTuple):
      ...     seconds: float
      ...     counts: tuple[Count, ...] = ()
      >>> encode(Progress(1.5, (2, 3)))
      {'seconds': 1.5, 'counts': [2, 3]}
    """
    hint = type(value) if hint is None else hint
    return _coder(hint).encode(value)


def decode(hint: Any, tree: Any, where: str = "it", axes: dict[str, int] | None = None, **shared: Any) -> Any:
    """The inverse of `encode`. A class with a method `validate` has it called on what was decoded.

    Args:
      hint: the class, or another type hint.
      tree: what `encode` returned.
      where: what errors call it.
      axes: lengths of axes of the class that are known, by letter.
      **shared: what all objects in the tree must agree on, as registered classes understand it.

    Raises:
      ValueError: anything that `encode` does not return, naming the place.

    Example:
      >>> from typing import NamedTuple
      >>> class Progress(NamedTuple):
      ...     seconds: float
      ...     counts: tuple[Count, ...] = ()
      >>> decode(Progress, {"seconds": 1.5, "counts": [2, -3]}, "progress")
      Traceback (most recent call last):
      ValueError: progress.counts[1] is -3, not a whole number from 0 on
    """
    return _coder(hint).decode(tree, where, Known(dict(axes or {}), dict(shared)))


def register(kind: type[T], encode: Callable[[T], Any], decode: Callable[[Any, str, Known], T]) -> None:
    """Gives a class a coder of its own, wherever it stands in a hint."""
    _registered[kind] = _Registered(encode, decode)


# ---------------------------------------------------------------------------------------------- coders by hint


@dataclasses.dataclass(frozen=True)
class _Registered:
    encode: Callable[[Any], Any]
    decode: Callable[[Any, str, Known], Any]


_registered: dict[type, Coder] = {}
register(Part, lambda part: part.tree, lambda tree, where, known: Part(tree, where))


@functools.cache
def _coder(hint: Any) -> Coder:
    if hint in _registered:
        return _registered[hint]
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return _annotated(*arguments)
    if origin in (Union, types.UnionType):
        (inner,) = (one for one in arguments if one is not type(None))
        return _Optional(_coder(inner))
    if origin is tuple:
        return _Tuple(tuple(_coder(one) for one in arguments if one is not ...), arguments[-1] is ...)
    if origin is Literal:
        return _Text(arguments)
    if hint in (int, float):
        return _Number(hint, Range())
    if hint in (bool, str):
        return _Flag() if hint is bool else _Text(())
    if dataclasses.is_dataclass(hint) or hasattr(hint, "_fields"):
        return _Record(hint)
    raise TypeError(f"no coder for {hint}")


def _annotated(inner: Any, *notes: Any) -> Coder:
    (note,) = (one for one in notes if isinstance(one, Range | Length) or hasattr(one, "decode"))
    if isinstance(note, Range):
        return _Number(inner, note)
    return _Sized(_coder(inner), note) if isinstance(note, Length) else note


@dataclasses.dataclass(frozen=True)
class _Number:
    kind: type
    limits: Range

    def encode(self, value: Any) -> Any:
        return self.kind(value)

    def decode(self, tree: Any, where: str, known: Known) -> Any:
        least, most = self.limits.least, _most(self.limits, known)
        if self.kind is int:
            whole = [-checked.MOST if least is None else int(least), checked.MOST if most is None else int(most)]
            return checked.whole(tree, where, *whole)
        lower, upper = -math.inf if least is None else least, math.inf if most is None else most
        return checked.number(tree, where, lower, upper, self.limits.finite)


@dataclasses.dataclass(frozen=True)
class _Flag:
    def encode(self, value: Any) -> bool:
        return bool(value)

    def decode(self, tree: Any, where: str, known: Known) -> bool:
        return checked.flag(tree, where)


@dataclasses.dataclass(frozen=True)
class _Text:
    allowed: tuple[str, ...]

    def encode(self, value: Any) -> str:
        return str(value)

    def decode(self, tree: Any, where: str, known: Known) -> str:
        if type(tree) is not str or (self.allowed and tree not in self.allowed):
            expected = f"one of {', '.join(map(repr, self.allowed))}" if self.allowed else "a text"
            raise ValueError(f"{where} is {shown(tree)}, not {expected}")
        return tree


@dataclasses.dataclass(frozen=True)
class _Optional:
    inner: Coder

    def encode(self, value: Any) -> Any:
        return None if value is None else self.inner.encode(value)

    def bind(self, tree: Any, axes: dict[str, int]) -> None:
        _bind(self.inner, tree, axes)

    def decode(self, tree: Any, where: str, known: Known) -> Any:
        return None if tree is None else self.inner.decode(tree, where, known)


@dataclasses.dataclass(frozen=True)
class _Tuple:
    inner: tuple[Coder, ...]
    repeated: bool

    def encode(self, value: Any) -> list[Any]:
        return [coder.encode(one) for coder, one in zip(self._coders(len(value)), value, strict=True)]

    def decode(self, tree: Any, where: str, known: Known) -> tuple[Any, ...]:
        stored = checked.items(tree, where, None if self.repeated else len(self.inner))
        coders = enumerate(self._coders(len(stored)))
        return tuple(coder.decode(stored[i], f"{where}[{i}]", known) for i, coder in coders)

    def _coders(self, count: int) -> tuple[Coder, ...]:
        return self.inner * count if self.repeated else self.inner


@dataclasses.dataclass(frozen=True)
class _Sized:
    inner: Coder
    length: Length

    def encode(self, value: Any) -> Any:
        return self.inner.encode(value)

    def decode(self, tree: Any, where: str, known: Known) -> Any:
        value = self.inner.decode(tree, where, known)
        expected = known.length(self.length.axis)
        if value is not None and expected not in (None, len(value)):
            raise ValueError(f"{where} has {len(value)}, not {expected}")
        return value


class _Record:
    """A dataclass or a named tuple, as a dict of its fields."""

    def __init__(self, kind: Any) -> None:
        hints = get_type_hints(kind, include_extras=True)
        names = kind._fields if hasattr(kind, "_fields") else [field.name for field in dataclasses.fields(kind)]
        self._kind = kind
        self._coders = {name: _coder(hints[name]) for name in names}

    def encode(self, value: Any) -> dict[str, Any]:
        return {name: coder.encode(getattr(value, name)) for name, coder in self._coders.items()}

    def decode(self, tree: Any, where: str, known: Known) -> Any:
        stored = checked.fields(tree, where, self._coders)
        inside = Known(dict(known.axes), known.shared)
        for name, coder in self._coders.items():
            _bind(coder, stored[name], inside.axes)
        values = {n: coder.decode(stored[n], f"{where}.{n}", inside) for n, coder in self._coders.items()}
        made = self._kind(**values)
        if hasattr(made, "validate"):
            try:
                made.validate()
            except ValueError as error:
                raise ValueError(f"{where}: {error}") from None
        return made


def _bind(coder: Coder, tree: Any, axes: dict[str, int]) -> None:
    if hasattr(coder, "bind"):
        coder.bind(tree, axes)
