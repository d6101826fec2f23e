"""What reaches across the lanes of a `Lanes`: sums and transpositions."""

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from zero_jax.executors.simd import vector as v

_W = v.WIDTH
_FLOAT, _INT32 = ir.FloatType(), ir.IntType(32)
_FLOATS, _INTS = ir.VectorType(_FLOAT, _W), ir.VectorType(_INT32, _W)


def _numbers(values: list[int]) -> ir.Constant:
    return ir.Constant(ir.VectorType(_INT32, len(values)), [ir.Constant(_INT32, value) for value in values])


@intrinsic
def total(typing_context: Any, value: Any) -> Any:
    """The sum of the sixteen numbers, half onto half, so that its rounding depends on nothing else."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        left, width = args[0], _W
        while width > 1:
            width //= 2
            nothing = ir.Constant(ir.VectorType(_FLOAT, 2 * width), ir.Undefined)
            halves = (builder.shuffle_vector(left, nothing, _numbers(list(range(at, at + width)))) for at in (0, width))
            left = builder.fadd(*halves)
        return builder.extract_element(left, ir.Constant(_INT32, 0))

    return types.float32(v.lanes), generate


@intrinsic
def kept(typing_context: Any, value: Any, count: Any) -> Any:
    """The first `count` numbers, and 0 in place of the others, whatever they are."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        narrow = builder.insert_element(
            ir.Constant(_INTS, ir.Undefined), builder.trunc(args[1], _INT32), ir.Constant(_INT32, 0)
        )
        every = builder.shuffle_vector(narrow, ir.Constant(_INTS, ir.Undefined), _numbers([0] * _W))
        within = builder.icmp_signed("<", _numbers(list(range(_W))), every)
        return builder.select(within, args[0], ir.Constant(_FLOATS, [ir.Constant(_FLOAT, 0.0)] * _W))

    return v.lanes(v.lanes, types.intp), generate


@intrinsic
def transpose(typing_context: Any, address: Any, source: Any, apart: Any, to: Any, to_apart: Any) -> Any:
    """Sixteen Lanes as the columns of what sixteen others were the rows of.

    The first of them are `source` and `to` floats behind the address, the next ones `apart` and `to_apart` further on.
    All are read before any is written.
    """

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        b, (memory, source, apart, to, to_apart) = builder, args
        rows = []
        for _ in range(_W):
            rows.append(b.load(v.pointer(b, memory, source, _FLOAT, _FLOATS), align=64))
            source = b.add(source, apart)
        for half in (8, 4, 2, 1):
            low = _numbers([i if not i & half else _W + i - half for i in range(_W)])
            high = _numbers([i + half if not i & half else _W + i for i in range(_W)])
            for i in range(_W):
                if not i & half:
                    pair = rows[i], rows[i + half]
                    rows[i], rows[i + half] = b.shuffle_vector(*pair, low), b.shuffle_vector(*pair, high)
        for row in rows:
            b.store(row, v.pointer(b, memory, to, _FLOAT, _FLOATS), align=64)
            to = b.add(to, to_apart)
        return context.get_dummy_value()

    return types.none(*[types.intp] * 5), generate
