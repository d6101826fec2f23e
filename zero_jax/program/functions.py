"""What the ops compute, as JAX functions. `ops.py` says which op has which.

A function takes and returns a scalar `[...]`, a vector `[..., F]` or a matrix `[..., F, F]`, with any batch axes in
front, or behind, as an executor lays them out (`Features`); what it returns broadcasts to the shape of its output.
Functions consist of elementwise operations and sums (the product of matrices, of outer products), so that every backend
can vmap and lower them. The executor decides how to sum, since compilers differ in what they do well.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import lax

Value = Any  # a JAX array or tracer

UNROLL = 16
"""Sums of at most this many terms are written out as a chain of additions. That fixes their order, and XLA on a CPU
fuses the chain where it would call a loop for `jnp.sum`: the `linear` space runs 1.4 times as fast."""


class Features(NamedTuple):
    """The axis of features, as an executor lays it out.

    Attributes:
      size: F. Arrays may be longer, with zeros behind.
      total: sums along an axis, the last or the last but one.
      matrices: the sum of `term(k)`, a matrix, over all features k.
      behind: how many batch axes lie behind those of features, rather than in front.
    """

    size: int
    total: Callable[[Value, int], Value]
    matrices: Callable[[Callable[[Value], Value]], Value]
    behind: int = 0

    def expand(self, x: Value, axis: int) -> Value:
        """A value with one more axis of features, of length 1: the last or the last but one."""
        return jnp.expand_dims(x, axis - self.behind)

    def transpose(self, a: Value) -> Value:
        """A matrix with its two axes of features exchanged."""
        return jnp.swapaxes(a, -1 - self.behind, -2 - self.behind)

    def numbers(self, x: Value, axis: int) -> Value:
        """0, 1, 2... along one axis of features."""
        return lax.broadcasted_iota(jnp.int32, x.shape, x.ndim + axis - self.behind)


def unrolled_features(size: int) -> Features:
    """Sums as XLA does them best: a few terms are written out."""

    def matrices(term: Callable[[Value], Value]) -> Value:
        if size > UNROLL:
            return lax.fori_loop(1, size, lambda k, sum_: sum_ + term(k), term(0))
        return functools.reduce(lambda sum_, k: sum_ + term(k), range(1, size), term(0))

    return Features(size, chained_total, matrices)


def chained_total(x: Value, axis: int) -> Value:
    """The sum along one axis, first element first; beyond `UNROLL` terms in an order that XLA chooses."""
    n = x.shape[axis]
    if n > UNROLL:
        return jnp.sum(x, axis)
    terms = [lax.index_in_dim(x, i, axis, keepdims=False) for i in range(n)]
    out = terms[0]
    for term in terms[1:]:
        out = out + term
    return out


def dot(features: Features, a: Value, b: Value) -> Value:
    """The inner product of two vectors."""
    return features.total(a * b, -1)


def matvec(features: Features, a: Value, b: Value) -> Value:
    """A matrix times a vector."""
    return features.total(a * features.expand(b, -2), -1)


def mean(axis: int) -> Callable[[Features, Value], Value]:
    """The mean along one axis of features."""
    return lambda features, a: features.total(a, axis) * (1.0 / features.size)


def norm(axis: int) -> Callable[[Features, Value], Value]:
    """The Euclidean norm along one axis of features."""
    return lambda features, a: jnp.sqrt(features.total(a * a, axis))


def matrix_total(features: Features, a: Value) -> Value:
    """The sum of all elements of a matrix."""
    return features.total(features.total(a, -1), -1)


def matrix_mean(features: Features, a: Value) -> Value:
    """The mean of all elements of a matrix."""
    return matrix_total(features, a) * (1.0 / features.size**2)


def matrix_norm(features: Features, a: Value) -> Value:
    """The Frobenius norm of a matrix."""
    return jnp.sqrt(matrix_total(features, a * a))


def stdev(rank: int) -> Callable[[Features, Value], Value]:
    """The standard deviation over `rank` axes of features.

    Sums are of differences from the first value, so that equal values have a deviation of exactly 0, however an
    executor rounds: a difference of two means would be 0 or NaN by chance.
    """

    def masked(features: Features, x: Value, numbers: int) -> Value:
        """Zeros from place `numbers` on, along each axis."""
        for axis in range(-1, -1 - rank, -1):
            x = jnp.where(features.numbers(x, axis) < numbers, x, 0.0)
        return x

    def total(features: Features, x: Value) -> Value:
        return functools.reduce(features.total, (-1,) * rank, x)

    def around(features: Features, x: Value, centre: Value) -> Value:
        return masked(features, x - functools.reduce(features.expand, (-1,) * rank, centre), features.size)

    def stdev(features: Features, a: Value) -> Value:
        share = 1.0 / features.size**rank
        shifted = around(features, a, total(features, masked(features, a, 1)))
        centred = around(features, shifted, total(features, shifted) * share)
        return jnp.sqrt(total(features, centred * centred) * share)

    return stdev


def step(x: Value) -> Value:
    """1 above 0, else 0."""
    return jnp.where(x > 0, 1.0, 0.0).astype(x.dtype)


def outer(features: Features, a: Value, b: Value) -> Value:
    """The outer product of two vectors."""
    return features.expand(a, -1) * features.expand(b, -2)


def scaled_vector(features: Features, a: Value, b: Value) -> Value:
    """A scalar times a vector."""
    return features.expand(a, -1) * b


def scaled_matrix(features: Features, a: Value, b: Value) -> Value:
    """A scalar times a matrix."""
    return features.expand(features.expand(a, -1), -1) * b


def matmul(features: Features, column: Callable[[Value], Value], row: Callable[[Value], Value]) -> Value:
    """A sum of outer products, so that nothing larger than a matrix is ever held."""
    return features.matrices(lambda k: outer(features, column(k), row(k)))


def place(features: Features, index: Value) -> Value:
    """The place of the element that an index constant in [0, 1) selects."""
    return jnp.clip(jnp.floor(index * features.size), 0, features.size - 1).astype(jnp.int32)


def set_vector(features: Features, old: Value, index: Value, value: Value) -> Value:
    """A vector with one element replaced."""
    return jnp.where(features.numbers(old, -1) == place(features, index), value, old)


def set_matrix(features: Features, old: Value, row: Value, column: Value, value: Value) -> Value:
    """A matrix with one element replaced."""
    here = (features.numbers(old, -2) == place(features, row)) & (features.numbers(old, -1) == place(features, column))
    return jnp.where(here, value, old)


def uniform(low: Value, high: Value, u: Value, _: Value) -> Value:
    """A draw from U(low, high); `low` where that is greater."""
    return jnp.where(low > high, low, low + (high - low) * u)


def gaussian(mean: Value, stdev: Value, u: Value, w: Value) -> Value:
    """Box and Muller: 1 - u is in (0, 1], so the logarithm is finite."""
    return mean + stdev * (jnp.sqrt(-2.0 * jnp.log(1.0 - u)) * jnp.cos((2.0 * jnp.pi) * w))


def add(a: Value, b: Value) -> Value:
    """A + b."""
    return a + b


def subtract(a: Value, b: Value) -> Value:
    """A - b."""
    return a - b


def multiply(a: Value, b: Value) -> Value:
    """A * b."""
    return a * b


def divide(a: Value, b: Value) -> Value:
    """A / b."""
    return a / b


def reciprocal(a: Value) -> Value:
    """1 / a."""
    return 1.0 / a


def minimum(a: Value, b: Value) -> Value:
    """The smaller one; `a` where either is NaN."""
    return jnp.where(b < a, b, a)


def maximum(a: Value, b: Value) -> Value:
    """The greater one; `a` where either is NaN."""
    return jnp.where(a < b, b, a)


def matrix_minimum(a: Value, b: Value) -> Value:
    """The smaller one; `b` where either is NaN."""
    return jnp.where(a < b, a, b)


def matrix_maximum(a: Value, b: Value) -> Value:
    """The greater one; `b` where either is NaN."""
    return jnp.where(a > b, a, b)


def heaviside(a: Value) -> Value:
    """1 from 0 on; upstream's vectors and matrices have `step` instead."""
    return jnp.where(a >= 0, 1.0, 0.0).astype(a.dtype)
