"""Which parts a network's program has beyond backpropagation, for `beyond.py`.

A part counts only if it does something: with it taken out, fitness on unseen tasks falls by more than 0.005 and by
two standard errors (over tasks). What is taken out (`candidates_of`):

- bias: a sum or difference in Predict with memory that Learn trains; that input is replaced by zero.
- threshold: the same for a minimum or maximum.
- fixed bias, fixed threshold: the same with memory that Learn does not touch.
- decay: a scalar that Predict or Learn updates from itself, independent of the data; it is replaced by the best of
  `CONSTANTS`, chosen on selection tasks.
- normalised gradient: a division, or a reciprocal, in Learn by a value that comes from the data through a norm,
  standard deviation, absolute value or inner product of something with itself; the divisor is replaced by the best of `CONSTANTS`.
- normalised input: the same in Predict.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

from zero_jax import Evaluator, Programs
from zero_jax.program import ops
from zero_jax.program.canonical import pruned
from zero_jax.program.roles import roles
from zero_jax.tasks import Tasks

KINDS = ("bias", "threshold", "fixed bias", "fixed threshold", "decay", "normalised gradient", "normalised input")

CONSTANTS = tuple(sign * 10.0**power for sign in (1, -1) for power in np.arange(-4, 2.1, 0.5))

MATTERS = 0.005
"""How much fitness on unseen tasks has to fall without a part."""


def fitness(programs: Programs, some: Tasks) -> np.ndarray:
    """`[P, T]`, every program trained in full."""
    return np.asarray(Evaluator(some, threads=1, stages=())(programs).fitness, np.float64)


class Candidate(NamedTuple):
    """A part that a program may have, and how to take it out.

    Attributes:
      kind: one of `KINDS`.
      component, row: its instruction.
      inputs: which of the instruction's inputs are replaced; none where writes to `address` are.
      address: for a decay.
      constants: what may stand in its place.
    """

    kind: str
    component: int
    row: int
    inputs: tuple[int, ...] = ()
    address: int = -1
    constants: tuple[float, ...] = CONSTANTS


_BIASES = ("SCALAR_SUM", "SCALAR_DIFF", "VECTOR_SUM", "VECTOR_DIFF")
_THRESHOLDS = ("VECTOR_MAX", "VECTOR_MIN", "SCALAR_MAX", "SCALAR_MIN")
_SIZES = ("_NORM", "_ABS", "_ST_DEV")
_DATA, _SIZE = "data", "size"


def candidates_of(bare: Programs) -> Iterator[Candidate]:
    """The parts that a program without dead code may have, by its flow of data."""
    components, role = bare.to_lists()[0], roles(bare)
    written = {(ops.OPS[int(row[0])].output, int(row[3])) for part in components for row in part if int(row[0])}
    flows = _flows(components)
    for c in (1, 2):
        for i, (row, before) in enumerate(zip(components[c], flows[c], strict=True)):
            op = ops.OPS[int(row[0])]
            places = [(kind, int(address)) for kind, address in zip(op.inputs, row[1:3], strict=False)]
            for n, place in enumerate(places):
                other = places[1 - n] if len(places) == 2 else place
                kind = "bias" if op.name in _BIASES else "threshold" if op.name in _THRESHOLDS else ""
                if c == 1 and kind and other != place and _DATA in before[other]:
                    if f"{place[0]}{place[1]}" in role.trained:
                        yield Candidate(kind, c, i, (n,), constants=(0.0,))
                    elif _DATA not in before[place] and place in written:
                        yield Candidate(f"fixed {kind}", c, i, (n,), constants=(0.0,))
            if op.name.endswith(("_DIVISION", "_RECIPROCAL")):
                divisor = len(places) - 1
                if {_DATA, _SIZE} <= before[places[divisor]]:
                    yield Candidate("normalised " + ("input" if c == 1 else "gradient"), c, i, (divisor,))
    for address in sorted(_clocks(components, flows)):
        yield Candidate("decay", 2, -1, address=address)


def _flows(components: list[Any]) -> dict[int, list[dict[Any, frozenset[str]]]]:
    """For Predict and Learn, what each place comes from before each instruction: data, and sizes taken of it.

    Data stays in memory from one example to the next; sizes count only within one.
    """
    values: dict[Any, frozenset[str]] = {}
    out: dict[int, list[dict[Any, frozenset[str]]]] = {}
    for _ in range(len(components[1]) + len(components[2]) + 1):  # until nothing spreads further
        values = {place: flow & {_DATA} for place, flow in values.items()}
        for c in (1, 2):
            values["v", 0] = values["s", 0] = values["s", 1] = frozenset([_DATA]) if c == 2 else frozenset()
            values["v", 0] = frozenset([_DATA])
            out[c] = []
            for row in components[c]:
                op = ops.OPS[int(row[0])]
                places = [(kind, int(address)) for kind, address in zip(op.inputs, row[1:3], strict=False)]
                out[c].append(_Known(values))
                flow = frozenset[str]().union(*(values.get(place, frozenset()) for place in places))
                squared = (
                    op.name in ("VECTOR_INNER_PRODUCT", "SCALAR_PRODUCT", "VECTOR_PRODUCT") and len(set(places)) == 1
                )
                if _DATA in flow and (op.name.endswith(_SIZES) or squared):
                    flow |= {_SIZE}
                if op.output:
                    values[op.output, int(row[3])] = flow
    return out


class _Known(dict[Any, frozenset[str]]):
    """A copy, in which what was never written comes from nothing."""

    def __missing__(self, key: Any) -> frozenset[str]:
        return frozenset()


def _clocks(components: list[Any], flows: dict[int, list[dict[Any, frozenset[str]]]]) -> set[int]:
    """Scalars that Predict or Learn computes from themselves, independent of the data."""
    sources: dict[int, set[int]] = {}
    tainted: set[int] = set()
    for c in (1, 2):
        for row, before in zip(components[c], flows[c], strict=True):
            op = ops.OPS[int(row[0])]
            if op.output != "s":
                continue
            places = [(kind, int(address)) for kind, address in zip(op.inputs, row[1:3], strict=False)]
            if any(_DATA in before[place] for place in places) or any(kind != "s" for kind, _ in places) or op.random:
                tainted.add(int(row[3]))
            sources.setdefault(int(row[3]), set()).update(address for _, address in places)
    clocks = set()
    for address in sources:
        reached, todo = set(), [address]
        while todo:
            new = sources.get(todo.pop(), set()) - reached
            reached |= new
            todo += new
        if address in reached and address not in tainted and address > 1:
            clocks.add(address)
    return clocks


def without(bare: Programs, part: Candidate, constant: float) -> Programs:
    """The program with a constant in place of a part."""
    components = bare.to_lists()[0]
    memory = list(bare.memory)
    if part.address >= 0:
        for c in (1, 2):
            components[c] = [
                [0] if ops.OPS[int(row[0])].output == "s" and int(row[3]) == part.address else row
                for row in components[c]
            ]
        components[0].append(_constant("s", part.address, constant))
        return Programs.from_lists([components], memory)
    row = components[part.component][part.row]
    for n in part.inputs:
        kind = ops.OPS[int(row[0])].inputs[n]
        address = memory["svm".index(kind)]
        memory["svm".index(kind)] += 1
        row[1 + n] = address
        if constant:
            components[0].append(_constant(kind, address, constant))
    return Programs.from_lists([components], memory)


def _constant(kind: str, address: int, value: float) -> list[float]:
    """A Setup instruction that sets all of an address to a value."""
    form = {
        "s": f"s{address} = {value}",
        "v": f"v{address} = gaussian({value}, 0)",
        "m": f"m{address} = gaussian({value}, 0)",
    }
    return Programs.parse(f"def Setup():\n  {form[kind]}\ndef Predict():\ndef Learn():\n").to_lists()[0][0][0]


def recognised(program: Programs, select: Tasks, unseen: Tasks) -> list[dict[str, Any]]:
    """The parts of a program, each with what fitness on unseen tasks loses without it."""
    bare = pruned(program)
    whole, parts = fitness(bare, unseen)[0], []
    for part in candidates_of(bare):
        others = [without(bare, part, constant) for constant in part.constants]
        chosen = int(np.argmax([fitness(other, select).mean() for other in others])) if len(others) > 1 else 0
        drops = whole - fitness(others[chosen], unseen)[0]
        drop, error = float(drops.mean()), float(stats.sem(drops))
        what = f"s{part.address}" if part.address >= 0 else _line(bare, part)
        parts.append(
            {
                "kind": part.kind,
                "where": what,
                "in_its_place": float(part.constants[chosen]),
                "drop": round(drop, 5),
                "error": round(error, 5),
                "counts": drop > MATTERS and drop > 2 * error,
            }
        )
    return parts


def _line(bare: Programs, part: Candidate) -> str:
    lines = bare.listing(0).split("def ")[1 + part.component].splitlines()[1:]
    return lines[part.row].strip()
