"""`Lanes`: sixteen float32 in a vector register, as a type that Numba compiles.

Where the machine's registers are narrower LLVM splits them. Memory is an address (an int64) and an index behind it; for
`load` and `store` of Lanes the address is aligned to 64 bytes and the index counts floats, a multiple of 16. Passed as
arrays, each would travel as seven arguments, and Numba would count references in the innermost loop.
"""

import platform
from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.datamodel import models
from numba.extending import NativeValue, intrinsic, register_model, typeof_impl, unbox

from zero_jax.executors.simd.layout import WIDTH as WIDTH
from zero_jax.support.compiled import compiled

_FLOAT, _INT32, _INT64 = ir.FloatType(), ir.IntType(32), ir.IntType(64)
_FLOATS = ir.VectorType(_FLOAT, WIDTH)
_INTS = ir.VectorType(_INT32, WIDTH)
_BITS = ir.VectorType(ir.IntType(1), WIDTH)


class LanesType(types.Type):
    """The Numba type of sixteen float32."""

    def __init__(self) -> None:
        super().__init__(name="Lanes")


lanes = LanesType()


@register_model(LanesType)
class _LanesModel(models.PrimitiveModel):
    def __init__(self, dmm: Any, fe_type: Any) -> None:
        super().__init__(dmm, fe_type, _FLOATS)


# ---------------------------------------------------------------------------------------------- numbers known early


class Size:
    """A number that compiled code knows: loops to it are unrolled, and each number is compiled for itself.

    `version` tells apart the sources that the code was compiled from, since machine code is kept on disk by type.
    """

    def __init__(self, number: int, version: str = "") -> None:
        self.number = number
        self.version = version


class SizeType(types.Type):
    """The Numba type of a `Size`: it holds the number, the value holds nothing."""

    def __init__(self, number: int, version: str) -> None:
        self.number = number
        super().__init__(name=f"Size({number}, {version})")


@typeof_impl.register(Size)
def _typeof_size(value: Size, c: Any) -> SizeType:
    return SizeType(value.number, value.version)


@register_model(SizeType)
class _SizeModel(models.OpaqueModel):
    pass


@unbox(SizeType)
def _unbox_size(typ: Any, obj: Any, c: Any) -> NativeValue:
    return NativeValue(c.context.get_dummy_value())


@intrinsic
def number(typing_context: Any, size: Any, otherwise: Any) -> Any:
    """The number of a `Size`, as a constant; of `Size(0)`, `otherwise`."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return ir.Constant(_INT64, size.number) if size.number else args[1]

    return types.intp(size, types.intp), generate


@compiled
def registers(size, features):  # type: ignore[no-untyped-def]
    """R, a constant unless `size` is `Size(0)`."""
    return number(size, (features + WIDTH - 1) // WIDTH)


# ---------------------------------------------------------------------------------------------- memory


def pointer(builder: Any, address: Any, index: Any, element: Any, to: Any) -> Any:
    """A pointer to `to` at the place of that `element` behind an address."""
    return builder.bitcast(builder.gep(builder.inttoptr(address, element.as_pointer()), [index]), to.as_pointer())


def _loaded(name: str, element: Any, to: Any, align: int, numba_type: Any) -> Any:
    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.load(pointer(builder, args[0], args[1], element, to), align=align)

    def loaded(typing_context: Any, address: Any, index: Any) -> Any:
        return numba_type(types.intp, types.intp), generate

    loaded.__name__ = name
    return intrinsic(loaded)


load = _loaded("load", _FLOAT, _FLOATS, 64, lanes)
integer = _loaded("integer", _INT64, _INT64, 8, types.int64)
word = _loaded("word", _INT32, _INT32, 4, types.uint32)
real = _loaded("real", _FLOAT, _FLOAT, 4, types.float32)


def _stored(name: str, element: Any, to: Any, align: int, numba_type: Any) -> Any:
    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        builder.store(args[2], pointer(builder, args[0], args[1], element, to), align=align)
        return context.get_dummy_value()

    def stored(typing_context: Any, address: Any, index: Any, value: Any) -> Any:
        return types.none(types.intp, types.intp, numba_type), generate

    stored.__name__ = name
    return intrinsic(stored)


store = _stored("store", _FLOAT, _FLOATS, 64, lanes)
put_integer = _stored("put_integer", _INT64, _INT64, 8, types.int64)
put_real = _stored("put_real", _FLOAT, _FLOAT, 4, types.float32)


@intrinsic
def take(typing_context: Any, address: Any) -> Any:
    """Adds 1 to the int64 at an address, atomically, and returns what it was: threads share out work with it."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        pointer = builder.inttoptr(args[0], _INT64.as_pointer())
        return builder.atomic_rmw("add", pointer, ir.Constant(_INT64, 1), "monotonic")

    return types.int64(types.intp), generate


@intrinsic
def raised(typing_context: Any, address: Any) -> Any:
    """Whether the int64 at an address is not 0; read anew each time, since another thread may set it."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        value = builder.load_atomic(builder.inttoptr(args[0], _INT64.as_pointer()), "monotonic", 8)
        return builder.icmp_signed("!=", value, ir.Constant(_INT64, 0))

    return types.boolean(types.intp), generate


# ---------------------------------------------------------------------------------------------- subnormal numbers


_MODES = {"x86_64": 0x8040, "AMD64": 0x8040, "aarch64": 1 << 24, "arm64": 1 << 24}
"""The bits of a processor's control word that let arithmetic take subnormal numbers as zero and return zero for them.
XLA sets them too. On a processor of another kind nothing is set."""

_MODE = _MODES.get(platform.machine(), 0)


def _control_word(builder: Any, new: Any = None) -> Any:
    """Reads this thread's control word of floating-point arithmetic, or writes it."""
    if platform.machine() in ("aarch64", "arm64"):
        if new is None:
            return builder.asm(ir.FunctionType(_INT64, []), "mrs $0, fpcr", "=r,~{memory}", [], True)
        return builder.asm(ir.FunctionType(ir.VoidType(), [_INT64]), "msr fpcr, $0", "r,~{memory}", [new], True)
    with builder.goto_entry_block():
        place = builder.alloca(_INT32)
    bytes_ = ir.IntType(8).as_pointer()
    kind = ir.FunctionType(ir.VoidType(), [bytes_])
    if new is not None:
        builder.store(builder.trunc(new, _INT32), place)
    name = "llvm.x86.sse.stmxcsr" if new is None else "llvm.x86.sse.ldmxcsr"
    function = cgutils.get_or_insert_function(builder.module, kind, name)
    builder.call(function, [builder.bitcast(place, bytes_)])
    return builder.zext(builder.load(place), _INT64)


@intrinsic
def flush_subnormals(typing_context: Any) -> Any:
    """Lets arithmetic of this thread take subnormal numbers as zero; returns what `restore` takes."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        if not _MODE:
            return ir.Constant(_INT64, 0)
        before = _control_word(builder)
        _control_word(builder, builder.or_(before, ir.Constant(_INT64, _MODE)))
        return before

    return types.int64(), generate


@intrinsic
def restore(typing_context: Any, before: Any) -> Any:
    """Leaves arithmetic of this thread as it was."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        if _MODE:
            _control_word(builder, args[0])
        return context.get_dummy_value()

    return types.none(types.int64), generate


# ---------------------------------------------------------------------------------------------- arithmetic


def _operation(name: str, arity: int, emit: Callable[..., Any], doc: str) -> Any:
    """An intrinsic on `arity` Lanes; `emit` takes the builder and the values.

    The name is part of the type, so of the symbol of a helper compiled for the operation, as `map2` for `sub`. Besides
    it Numba only puts a number in a symbol, counted anew in each process; of two symbols of one name in what processes
    left on disk, the first to be loaded serves both.
    """

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return emit(builder, *args)

    def one(typing_context: Any, a: Any) -> Any:
        return lanes(lanes), generate

    def two(typing_context: Any, a: Any, b: Any) -> Any:
        return lanes(lanes, lanes), generate

    def three(typing_context: Any, a: Any, b: Any, c: Any) -> Any:
        return lanes(lanes, lanes, lanes), generate

    typed = (one, two, three)[arity - 1]
    typed.__name__ = name
    made = intrinsic(typed)
    made.__doc__ = doc
    return made


def _constant(value: float) -> ir.Constant:
    return ir.Constant(_FLOATS, [ir.Constant(_FLOAT, float(np.float32(value)))] * WIDTH)


def _ints(value: int) -> ir.Constant:
    return ir.Constant(_INTS, [ir.Constant(_INT32, value)] * WIDTH)


def _intrinsic_call(name: str, arity: int) -> Callable[..., Any]:
    def emit(builder: Any, *args: Any) -> Any:
        function = cgutils.get_or_insert_function(builder.module, ir.FunctionType(_FLOATS, [_FLOATS] * arity), name)
        return builder.call(function, args)

    return emit


def _lane_by_lane(name: str) -> Callable[..., Any]:
    """Calls a function of the C library on every lane."""

    def emit(builder: Any, x: Any) -> Any:
        function = cgutils.get_or_insert_function(builder.module, ir.FunctionType(_FLOAT, [_FLOAT]), name)
        out = ir.Constant(_FLOATS, ir.Undefined)
        for i in range(WIDTH):
            lane = ir.Constant(_INT32, i)
            out = builder.insert_element(out, builder.call(function, [builder.extract_element(x, lane)]), lane)
        return out

    return emit


def _choose(comparison: str, swapped: bool) -> Callable[..., Any]:
    """`b cmp a ? b : a`, or with `swapped` `a cmp b ? a : b`: they differ for NaN."""

    def emit(builder: Any, a: Any, b: Any) -> Any:
        first, second = (a, b) if swapped else (b, a)
        return builder.select(builder.fcmp_ordered(comparison, first, second), first, second)

    return emit


def _step(comparison: str) -> Callable[..., Any]:
    def emit(builder: Any, a: Any) -> Any:
        return builder.select(builder.fcmp_ordered(comparison, a, _constant(0)), _constant(1), _constant(0))

    return emit


add = _operation("add", 2, lambda b, x, y: b.fadd(x, y), "a + b")
sub = _operation("sub", 2, lambda b, x, y: b.fsub(x, y), "a - b")
mul = _operation("mul", 2, lambda b, x, y: b.fmul(x, y), "a * b")
div = _operation("div", 2, lambda b, x, y: b.fdiv(x, y), "a / b")
fma = _operation("fma", 3, _intrinsic_call("llvm.fma.v16f32", 3), "a * b + c, rounded once")
minimum = _operation("minimum", 2, _choose("<", False), "b < a ? b : a")
maximum = _operation("maximum", 2, _choose(">", False), "b > a ? b : a")
matrix_minimum = _operation("matrix_minimum", 2, _choose("<", True), "a < b ? a : b")
matrix_maximum = _operation("matrix_maximum", 2, _choose(">", True), "a > b ? a : b")
negative = _operation("negative", 1, lambda b, x: b.fneg(x), "-a")
absolute = _operation("absolute", 1, _intrinsic_call("llvm.fabs.v16f32", 1), "abs(a)")
root = _operation("root", 1, _intrinsic_call("llvm.sqrt.v16f32", 1), "sqrt(a)")
reciprocal = _operation("reciprocal", 1, lambda b, x: b.fdiv(_constant(1), x), "1 / a")
positive = _operation("positive", 1, _step(">"), "1 where a > 0, else 0")
at_least = _operation(
    "at_least",
    2,
    lambda b, x, y: b.select(b.fcmp_ordered(">=", x, y), _constant(1), _constant(0)),
    "1 where a >= b, else 0",
)
not_negative = _operation("not_negative", 1, _step(">="), "1 where a >= 0, else 0")
sine, cosine, tangent = (_operation(name, 1, _lane_by_lane(f"{name}f"), f"{name}(a)") for name in ("sin", "cos", "tan"))
arcsine, arccosine, arctangent = (
    _operation(name, 1, _lane_by_lane(f"{name}f"), f"{name}(a)") for name in ("asin", "acos", "atan")
)
exponential, logarithm = (_operation(name, 1, _lane_by_lane(f"{name}f"), f"{name}(a)") for name in ("exp", "log"))
wrong_class = _operation(
    "wrong_class",
    2,
    lambda b, s, y: b.uitofp(
        b.xor(b.fcmp_ordered(">", s, _constant(0)), b.fcmp_ordered(">", y, _constant(0.5))), _FLOATS
    ),
    "1 where (a > 0) != (b > 0.5), else 0",
)


@intrinsic
def splat(typing_context: Any, value: Any) -> Any:
    """One float32 in every lane."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        first = builder.insert_element(ir.Constant(_FLOATS, ir.Undefined), args[0], ir.Constant(_INT32, 0))
        return builder.shuffle_vector(first, ir.Constant(_FLOATS, ir.Undefined), _ints(0))

    return lanes(types.float32), generate


@intrinsic
def within(typing_context: Any, value: Any, limit: Any) -> Any:
    """A bit for each lane, lane 0 the lowest: whether abs(value) <= limit. NaN is not."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        size = _intrinsic_call("llvm.fabs.v16f32", 1)(builder, args[0])
        bits = builder.fcmp_ordered("<=", size, args[1])
        return builder.zext(builder.bitcast(bits, ir.IntType(WIDTH)), _INT64)

    return types.int64(lanes, lanes), generate


@intrinsic
def mixed(typing_context: Any, state: Any, value: Any, mask: Any) -> Any:
    """A hash of 32 bits in each lane, after one more value; lanes whose bit in the mask is 0 keep theirs."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        b = builder
        state, bits = (b.bitcast(x, _INTS) for x in args[:2])
        new = b.mul(b.xor(state, bits), _ints(0x85EBCA6B))
        new = b.xor(new, b.lshr(new, _ints(15)))
        chosen = b.bitcast(b.trunc(args[2], ir.IntType(WIDTH)), _BITS)
        return b.bitcast(b.select(chosen, b.add(b.mul(new, _ints(5)), _ints(0xE6546B64)), state), _FLOATS)

    return lanes(lanes, lanes, types.int64), generate


# ---------------------------------------------------------------------------------------------- the random stream


@intrinsic
def draws(typing_context: Any, seed: Any, tasks: Any, at: Any, element: Any, draw: Any) -> Any:
    """Two uniforms in [0, 1) for sixteen tasks: pcg4d of (seed, task, element, draw), as `stream.draws`.

    `tasks` is the address of uint32 task ids, of which those from `at` on are taken; the others are int64.
    """

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        b = builder

        def every(value: Any) -> Any:
            narrow = b.trunc(value, _INT32)
            first = b.insert_element(ir.Constant(_INTS, ir.Undefined), narrow, ir.Constant(_INT32, 0))
            return b.shuffle_vector(first, ir.Constant(_INTS, ir.Undefined), _ints(0))

        ids = b.load(pointer(b, args[1], args[2], _INT32, _INTS), align=4)
        v = [every(args[0]), ids, every(args[3]), every(args[4])]
        v = [b.add(b.mul(x, _ints(1664525)), _ints(1013904223)) for x in v]
        for mixing in (True, False):
            for i, (p, q) in enumerate(((1, 3), (2, 0), (0, 1), (1, 2))):
                v[i] = b.add(v[i], b.mul(v[p], v[q]))
            if mixing:
                v = [b.xor(x, b.lshr(x, _ints(16))) for x in v]
        unit = [b.fmul(b.uitofp(b.lshr(x, _ints(8)), _FLOATS), _constant(2.0**-24)) for x in v[:2]]
        return context.make_tuple(b, sig.return_type, unit)

    return types.UniTuple(lanes, 2)(types.int64, types.intp, types.int64, types.int64, types.int64), generate
