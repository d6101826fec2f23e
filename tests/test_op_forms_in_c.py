"""The C forms of the op table against its functions."""

import ctypes
import shutil
import subprocess

import jax.numpy as jnp
import numpy as np
import pytest

from zero_jax.program import ops

COMPILER = shutil.which("gcc") or shutil.which("cc")
SPECIAL = [0.0, -0.0, 1.0, -1.0, 0.5, np.inf, -np.inf, np.nan, 1e-30, 3e38]

HEADER = """
#include <math.h>
#define VA(x) A[x]
#define VB(x) B[x]
#define MA(x, y) A[(x) * F + (y)]
#define MB(x, y) B[(x) * F + (y)]
"""

FUNCTION = """
void op_%(number)d(int F, const float *A, const float *B, const float *C, const float *U, const float *W, float *O) {
  for (int i = 0; i < %(rows)s; i++) for (int j = 0; j < %(columns)s; j++) {
    int k = 0, r = 0, at = i * %(columns)s + j;
    float a = %(a)s, b = %(b)s, c0 = C[0], c1 = C[1], c2 = C[2], u = U[at], w = W[at], o = O[at];
    %(statement)s
    O[at] = o;
    (void)k; (void)r; (void)a; (void)b; (void)c0; (void)c1; (void)c2; (void)u; (void)w;
  }
}
"""


def function(op):
    """An op as a C function that fills its output, element by element."""
    element = {"s": "{}[0]", op.output: "{}[at]"}
    a, b = (element.get(kind, "0.0f").format(name) for kind, name in zip(op.inputs.ljust(2), "AB", strict=True))
    rows, columns = {"s": ("1", "1"), "v": ("F", "1"), "m": ("F", "F")}[op.output]
    return FUNCTION % {
        "number": op.number, "rows": rows, "columns": columns, "a": a, "b": b, "statement": op.c,
    }  # fmt: skip


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    if COMPILER is None:
        pytest.skip("there is no C compiler")
    folder = tmp_path_factory.mktemp("c")
    (folder / "ops.c").write_text(HEADER + "".join(function(op) for op in ops.OPS[1:]))
    options = ["-O1", "-ffp-contract=off", "-shared", "-fPIC", "-std=c99", "-Wall", "-Werror", "-lm"]
    command = [COMPILER, str(folder / "ops.c"), "-o", str(folder / "ops.so"), *options]
    subprocess.run(command, check=True, capture_output=True, text=True)
    return ctypes.CDLL(str(folder / "ops.so"))


def values(rng, shape, special):
    drawn = rng.normal(size=shape).astype(np.float32)
    return np.where(rng.random(shape) < 0.4, rng.choice(SPECIAL, shape), drawn).astype(np.float32) if special else drawn


def in_c(compiled, op, features, operands, constants, draws, old):
    out = np.array(old, np.float32)
    arrays = [*operands, *[np.zeros(1, np.float32)] * (2 - len(operands)), constants, *draws, out]
    arrays = [np.ascontiguousarray(array, np.float32) for array in arrays]
    pointers = [array.ctypes.data_as(ctypes.POINTER(ctypes.c_float)) for array in arrays]
    getattr(compiled, f"op_{op.number}")(features, *pointers)
    return arrays[-1].reshape(np.shape(old))


def in_jax(op, features, operands, constants, draws, old):
    taken = [jnp.asarray(operand) for operand in operands]
    if op.product:
        a, b = taken
        taken = [lambda k: a[:, k], lambda k: b[k]]
    taken += [jnp.asarray(old)] if op.reads_output else []
    taken += [jnp.asarray(constants[i]) for i in range(len(op.constants))]
    taken += [jnp.asarray(draw) for draw in draws] if op.random else []
    return np.broadcast_to(op.value(ops.unrolled_features(features), *taken), np.shape(old))


@pytest.mark.parametrize("op", ops.OPS[1:], ids=lambda op: op.name)
def test_the_c_form_computes_what_the_function_does(compiled, op):
    rng = np.random.default_rng(op.number)
    for trial in range(20):
        features = int(rng.integers(1, 7))
        shapes = {"s": (), "v": (features,), "m": (features, features)}
        operands = [values(rng, shapes[kind], special=trial % 2) for kind in op.inputs]
        constants = rng.uniform(-1, 1, 3).astype(np.float32)
        for i, meaning in enumerate(op.constants):
            constants[i] = rng.choice([0.0, 0.5, 0.999, 1.0, 7.0, -3.0]) if meaning == "index" else constants[i]
        shape = shapes[op.output]
        draws, old = rng.random((2, *shape)).astype(np.float32), values(rng, shape, special=False)
        got = in_c(compiled, op, features, operands, constants, draws, old)
        want = in_jax(op, features, operands, constants, draws, old)
        np.testing.assert_allclose(got, want, rtol=2e-5, atol=1e-6, err_msg=f"{operands}")


def test_no_op_has_no_c_form():
    assert not ops.OPS[0].c
