"""Mutation of whole batches of programs (SPEC 3).

Axes: `n` programs, `L` instruction slots.
"""

import dataclasses
from collections.abc import Callable
from typing import Literal

import numpy as np

from zero_jax import ops
from zero_jax.programs import Programs, SearchSpace, random_addresses, random_instructions

MutationType = Literal[
    "alter_param",
    "randomize_instruction",
    "randomize_component",
    "insert_instruction",
    "remove_instruction",
    "trade_instruction",
    "randomize_algorithm",
    "identity",
]

FLIP_PROBABILITY = 0.1
"""How often altering a constant flips its sign."""


@dataclasses.dataclass(frozen=True)
class Mutations:
    """How children differ from their parents.

    Attributes:
      types: the mutation types in use: `alter_param` (redraws one address or alters one constant of an instruction),
        `randomize_instruction`, `randomize_component` (every instruction of one, length kept), `insert_instruction`,
        `remove_instruction`, `trade_instruction` (inserts one, then removes one), `randomize_algorithm` (every
        component), `identity`.
      weights: how often each type is drawn, relative to the others; empty for equally often.
      probability: of a child being mutated at all (SPEC's U).
      constants: `upstream` multiplies an altered constant by exp(N(0, 1)), `paper` by U(0.5, 2).

    Raises:
      ValueError: no types, an unknown one, weights that do not fit, a probability outside 0 to 1.
    """

    types: tuple[MutationType, ...] = ("alter_param", "randomize_instruction", "randomize_component")
    weights: tuple[float, ...] = ()
    probability: float = 0.9
    constants: Literal["upstream", "paper"] = "upstream"

    def __post_init__(self) -> None:
        unknown = [kind for kind in self.types if kind not in _MUTATE]
        if unknown or not self.types:
            raise ValueError(f"mutation types must be among {', '.join(_MUTATE)}, not {self.types}")
        if self.weights and (
            len(self.weights) != len(self.types) or min(self.weights) < 0 or not 0 < sum(self.weights) < np.inf
        ):
            raise ValueError(
                f"weights {self.weights} must give each of the {len(self.types)} types a number, not all 0"
            )
        if not 0 <= self.probability <= 1:
            raise ValueError(f"the mutation probability must be from 0 to 1, not {self.probability}")
        if self.constants not in ("upstream", "paper"):
            raise ValueError(f"constants must be 'upstream' or 'paper', not {self.constants!r}")


@dataclasses.dataclass
class _Batch:
    """Programs that are being changed in place, and what the changes need."""

    code: np.ndarray
    data: np.ndarray
    length: np.ndarray
    starts: tuple[int, ...]
    space: SearchSpace
    rng: np.random.Generator
    constants: str


def mutate(programs: Programs, space: SearchSpace, mutations: Mutations, rng: np.random.Generator) -> Programs:
    """A mutated copy of every program.

    Args:
      programs: the parents, one for each child; their capacity is the space's.
      space: what random instructions may be, and the sizes that insertion and removal keep to.
      mutations: which mutations, and how often.
      rng: where randomness comes from; it is advanced.

    Returns:
      The children. A mutation that cannot apply (no instruction to alter, no room to insert) leaves its child a copy.

    Example:
      >>> from zero_jax import library
      >>> space = SearchSpace((4, 3, 1), (56,), (27,), (2, 3, 18, 23), (1, 1, 1), (1, 1, 4), (1, 1, 4))
      >>> parent = library.program("linear", memory=(4, 3, 1))
      >>> len(mutate(parent, space, Mutations(), np.random.default_rng(0)))
      1
    """
    if programs.capacity != tuple(space.capacity):
        raise ValueError(f"programs of capacity {programs.capacity} are not of this space, whose is {space.capacity}")
    n = len(programs)
    code, data, length = (np.array(part) for part in (programs.code, programs.data, programs.length))
    batch = _Batch(code, data, length, programs.starts, space, rng, mutations.constants)
    open_components = np.flatnonzero([len(allowed) > 0 for allowed in space.ops])
    if not len(open_components):
        raise ValueError("no component of the space has ops, so nothing can be mutated")
    weights = np.array(mutations.weights or [1.0] * len(mutations.types))
    mutated = rng.random(n) < mutations.probability
    kind = rng.choice(len(weights), n, p=weights / weights.sum())
    component = open_components[rng.integers(0, len(open_components), n)]
    for i, name in enumerate(mutations.types):
        rows = np.flatnonzero(mutated & (kind == i))
        _MUTATE[name](batch, rows, component[rows])
    return programs.with_arrays(batch.code, batch.data, batch.length)


def _random_slot(batch: _Batch, rows: np.ndarray, component: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows with an instruction in their component, that component, and the slot of a uniform one."""
    length = batch.length[rows, component]
    some = length > 0
    rows, component, length = rows[some], component[some], length[some]
    return rows, component, np.array(batch.starts)[component] + batch.rng.integers(0, length)


def _alter_param(batch: _Batch, rows: np.ndarray, component: np.ndarray) -> None:
    rows, _, slots = _random_slot(batch, rows, component)
    op = batch.code[rows, slots, 0]
    n_constants = ops.CONSTANT_COUNTS[op]
    n_inputs = (ops.INPUT_KINDS[op] >= 0).sum(-1)
    # Choices 0 and up are in1, in2 and then the output; one more is the data, for ops that have some.
    choice = batch.rng.integers(0, np.maximum(n_inputs + (ops.OUTPUT_KINDS[op] >= 0) + (n_constants > 0), 1))
    for field in range(3):
        chosen = (choice == field) & (choice < n_inputs) if field < 2 else choice == n_inputs
        at = rows[chosen], slots[chosen], field + 1
        batch.code[at] = random_addresses(batch.space, op[chosen], field, batch.rng)
    _alter_data(batch, *(part[choice > n_inputs] for part in (rows, slots, op)))


def _alter_data(batch: _Batch, rows: np.ndarray, slots: np.ndarray, op: np.ndarray) -> None:
    rng = batch.rng
    which = rng.integers(0, ops.CONSTANT_COUNTS[op])
    meaning = ops.CONSTANT_MEANINGS[op, which]
    factor = np.exp(rng.normal(size=len(op))) if batch.constants == "upstream" else rng.uniform(0.5, 2.0, len(op))
    flipped = (rng.random(len(op)) < FLIP_PROBABILITY) & (meaning != "stdev")
    redrawn = rng.random(len(op))
    old = batch.data[rows, slots, which]
    with np.errstate(over="ignore"):
        scaled = (old * np.where(flipped, -1.0, factor)).astype(np.float32)
    batch.data[rows, slots, which] = np.where(meaning == "index", redrawn, scaled)
    bounded = meaning == "bound"
    pairs = rows[bounded], slots[bounded], slice(0, 2)
    batch.data[pairs] = np.sort(batch.data[pairs], -1)


def _randomize_instruction(batch: _Batch, rows: np.ndarray, component: np.ndarray) -> None:
    rows, component, slots = _random_slot(batch, rows, component)
    batch.code[rows, slots], batch.data[rows, slots] = random_instructions(batch.space, component, batch.rng)


def _randomize_component(batch: _Batch, rows: np.ndarray, component: np.ndarray) -> None:
    for c in np.unique(component):
        here = rows[component == c]
        start, end = batch.starts[c], batch.starts[c + 1]
        used = np.arange(end - start) < batch.length[here, c, None]
        program, slot = np.nonzero(used)
        drawn = random_instructions(batch.space, np.full(len(program), c), batch.rng)
        batch.code[here[program], start + slot], batch.data[here[program], start + slot] = drawn


def _randomize_algorithm(batch: _Batch, rows: np.ndarray, component: np.ndarray) -> None:
    del component
    for c, allowed in enumerate(batch.space.ops):
        if allowed:
            _randomize_component(batch, rows, np.full(len(rows), c))


def _insert_instruction(batch: _Batch, rows: np.ndarray, component: np.ndarray) -> None:
    room = batch.length[rows, component] < np.array(batch.space.max_size)[component] - 1
    _splice(batch, rows[room], component[room], insert=True, remove=False)


def _remove_instruction(batch: _Batch, rows: np.ndarray, component: np.ndarray) -> None:
    spare = batch.length[rows, component] > np.array(batch.space.min_size)[component]
    _splice(batch, rows[spare], component[spare], insert=False, remove=True)


def _trade_instruction(batch: _Batch, rows: np.ndarray, component: np.ndarray) -> None:
    _splice(batch, rows, component, insert=True, remove=True)


def _splice(batch: _Batch, rows: np.ndarray, component: np.ndarray, *, insert: bool, remove: bool) -> None:
    """Inserts a random instruction at a random place, then removes one at a random place."""
    for c in np.unique(component):
        here = rows[component == c]
        start, end = batch.starts[c], batch.starts[c + 1]
        length = batch.length[here, c].astype(np.int64)
        pad = ((0, 0), (0, 1), (0, 0))  # room for one more in between
        code, data = (np.pad(part[here, start:end], pad) for part in (batch.code, batch.data))
        slots = np.arange(end - start + 1)
        each = np.arange(len(here))
        if insert:
            place = batch.rng.integers(0, length + 1)
            source = slots - (slots > place[:, None])
            code, data = (np.take_along_axis(part, source[..., None], 1) for part in (code, data))
            code[each, place], data[each, place] = random_instructions(batch.space, np.full(len(here), c), batch.rng)
            length = length + 1
        if remove:
            place = batch.rng.integers(0, length)
            source = np.minimum(slots + (slots >= place[:, None]), end - start)
            code, data = (np.take_along_axis(part, source[..., None], 1) for part in (code, data))
            length = length - 1
        used = (slots < length[:, None])[:, :-1, None]
        batch.code[here, start:end], batch.data[here, start:end] = code[:, :-1] * used, np.where(used, data[:, :-1], 0)
        batch.length[here, c] = length


def _identity(batch: _Batch, rows: np.ndarray, component: np.ndarray) -> None:
    del batch, rows, component


_MUTATE: dict[str, Callable[[_Batch, np.ndarray, np.ndarray], None]] = {
    "alter_param": _alter_param,
    "randomize_instruction": _randomize_instruction,
    "randomize_component": _randomize_component,
    "insert_instruction": _insert_instruction,
    "remove_instruction": _remove_instruction,
    "trade_instruction": _trade_instruction,
    "randomize_algorithm": _randomize_algorithm,
    "identity": _identity,
}

PAPER = Mutations(
    types=("insert_instruction", "remove_instruction", "randomize_component", "alter_param"),
    weights=(1.0, 2.0, 3.0, 3.0),
    constants="paper",
)
"""The paper's distribution (section 3): a third adds or removes, removal twice as likely; a third randomizes a
component; a third modifies an argument."""
