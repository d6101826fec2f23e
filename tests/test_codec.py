"""Objects as trees and back: what comes back is what went in, and nothing else is accepted."""

import dataclasses
from typing import Annotated, Literal, NamedTuple

import numpy as np
import pytest

from tests import damage
from tests.helpers import assert_equal
from tests.spaces import DEMO, SMALL
from zero_jax import Programs, random_programs
from zero_jax.support.codec import Array, Count, Length, Range, decode, encode
from zero_jax.support.files import packed, unpacked


class Inner(NamedTuple):
    values: Annotated[np.ndarray, Array(np.float64, ("I*P", None))]
    births: Annotated[np.ndarray, Array(np.int64, ("I*P",), least=0)]


@dataclasses.dataclass(frozen=True)
class Outer:
    inner: tuple[Inner, ...]
    programs: Annotated[Programs, Length("I*P")]
    best: Programs | None
    fitness: Annotated[np.ndarray, Array(np.float64, ("I", "P"), finite=False)]
    oldest: Annotated[int, Range(0, below="P")]
    best_fitness: Annotated[float, Range(finite=False)]
    bits: Annotated[int, Range(0, 2**128 - 1)]
    kind: Literal["mean", "median"]
    pair: tuple[Count, bool]
    name: str = "a"

    def validate(self):
        if self.name == "refused":
            raise ValueError("it is refused")


def one():
    programs = random_programs(SMALL, 6, np.random.default_rng(0))
    inner = Inner(np.ones((6, 3)), np.arange(6))
    return Outer((inner, inner), programs, programs[0], np.full((2, 3), 0.5), 2, -np.inf, 2**127, "mean", (3, True))


def test_what_is_encoded_comes_back():
    tree = unpacked(packed(encode(one())))
    again = decode(Outer, tree)
    assert_equal(again.programs, one().programs)
    np.testing.assert_equal(encode(again), encode(one()))
    assert (again.oldest, again.best_fitness, again.bits, again.pair) == (2, -np.inf, 2**127, (3, True))
    assert decode(Outer, tree | {"best": None}).best is None
    assert not np.shares_memory(decode(Outer, tree).fitness, tree["fitness"])


def fits(path, other):
    """Whether another form is one that `Outer` can have."""
    if path in (("best",), ("name",)):
        return other is None if path == ("best",) else isinstance(other, str)
    if path == ("inner",):
        return isinstance(other, list) and all(isinstance(one, dict) and "births" in one for one in other)
    return path[-1:] == ("values",) and isinstance(other, np.ndarray) and other.dtype == np.float64 and other.shape[0] == 6 and other.ndim == 2  # fmt: skip


def test_all_other_forms_are_refused_by_their_place():
    whole, tried = unpacked(packed(encode(one()))), 0
    for path in damage.paths(whole):
        for other in damage.structural(damage.at(whole, path)):
            if fits(path, other):
                continue
            tried += 1
            with pytest.raises(ValueError, match=r"^state\b"):
                decode(Outer, damage.put(whole, path, other), "state")
    assert tried > 250


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("oldest",), 3, "state.oldest is 3, not a whole number from 0 to 2"),
        (("pair", 0), -1, r"state.pair\[0\] is -1, not a whole number from 0 on"),
        (("inner", 1, "births"), -np.arange(6), r"state.inner\[1\].births has -5, less than 0"),
        (("inner", 0, "births"), np.arange(5), r"state.inner\[0\].births has shape \(5,\), not \(6,\)"),
        (("inner", 0, "values"), np.full((6, 1), np.inf), r"inner\[0\].values has values that are not finite"),
        (("kind",), "max", "state.kind is 'max', not one of 'mean', 'median'"),
        (("best_fitness",), np.nan, "state.best_fitness is nan, not a finite number"),
        (("best", "memory"), [5, 3, 1], r"state.best.memory is \[5, 3, 1\], not \["),
        (("name",), "refused", "state: it is refused"),
        (("x",), 1, "state has 'x', which does not belong there"),
    ],
)
def test_errors_name_the_place(path, value, message):
    with pytest.raises(ValueError, match=message):
        decode(Outer, damage.put(unpacked(packed(encode(one()))), path, value), "state")


def test_known_axes_and_layouts_are_checked():
    tree = encode(one())
    with pytest.raises(ValueError, match=r"state.inner\[0\].values has shape \(6, 3\), not \(12, any\)"):
        decode(Outer, tree, "state", {"I": 4})
    with pytest.raises(ValueError, match=r"state.programs.capacity is .*, not \[10, 2, 8\]"):
        decode(Outer, tree, "state", like=DEMO)


def test_a_class_without_a_coder_is_a_mistake_of_the_programmer():
    with pytest.raises(TypeError, match="no coder for"):
        encode(object())


def test_fitness_may_be_nan_where_the_hint_allows_it():
    nan = dataclasses.replace(one(), fitness=np.full((2, 3), np.nan))
    assert np.isnan(decode(Outer, encode(nan)).fitness).all()
