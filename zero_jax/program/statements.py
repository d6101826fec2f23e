"""A program as statements on named values: what a person would write down.

An address of memory means different things at different times. Here each value has a name of its own: attributes, which
stay from one example to the next or from Predict to Learn, and local values.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from zero_jax.program import ops
from zero_jax.program.canonical import live, pruned
from zero_jax.program.liveness import number_draws
from zero_jax.program.memory import Interface, resolved
from zero_jax.program.programs import Programs
from zero_jax.program.roles import roles

SETUP, PREDICT, LEARN = range(3)

Place = str
"""An address, as `v3`."""


class Statement(NamedTuple):
    """One instruction.

    Attributes:
      op: its op.
      inputs: the names of the values that it reads; `0` stands for memory that is never written.
      old: the name of the value of which it keeps all elements but one, or empty.
      output: the name of the value that it computes.
      kind: of the output: s, v or m.
      attribute: whether the output stays.
      constants: its constants.
      draw: its place among the component's random instructions.
      role: as in `roles`.
      place: the address that it writes, and those that it reads.
    """

    op: ops.Op
    inputs: tuple[str, ...]
    old: str
    output: str
    kind: str
    attribute: bool
    constants: tuple[float, ...]
    draw: int
    role: str
    place: tuple[Place, ...]


class Written(NamedTuple):
    """One program, without dead code.

    Attributes:
      attributes: names of the values that stay, with their kinds, in the order in which a reader meets them.
      unset: those that Setup does not leave there, and so are 0 at first.
      components: the statements of Setup, Predict and Learn.
      prediction: the name of the prediction at the end of Predict; an attribute if the next example reads it.
      addresses: the address of each attribute.
      interface: where label, features and prediction are.
    """

    attributes: dict[str, str]
    unset: tuple[str, ...]
    components: tuple[list[Statement], list[Statement], list[Statement]]
    prediction: str
    addresses: dict[str, Place]
    interface: Interface


def written(program: Programs, interface: Interface | None = None) -> Written:
    """One program as statements.

    Example:
      >>> from zero_jax import library
      >>> found = written(library.program("linear"))
      >>> found.attributes
      {'learning_rate': 's', 'weights': 'v'}
      >>> [one.output for one in found.components[2]]
      ['error', 'step', 'gradient', 'weights']
    """
    return _Writer(program, interface).written()


class _Raw(NamedTuple):
    op: ops.Op
    reads: tuple[Place, ...]
    writes: Place
    constants: tuple[float, ...]
    draw: int


class _Writer:
    def __init__(self, program: Programs, interface: Interface | None) -> None:
        self.interface = resolved(interface, program.memory)
        bare = pruned(number_draws(program, live(program, interface)), interface)
        places = [f"{kind}{n}" for kind, size in zip(ops.KINDS, program.memory, strict=True) for n in range(size)]
        self.label, self.features, self.prediction = (places[end] for end in self.interface)
        self.known = roles(bare, interface)
        self.raw = [list(_instructions(bare, component)) for component in range(3)]
        self.given = {self.label, self.features}
        self.before = self._live()
        self.names: dict[Place, str] = {}

    # -------------------------------------------------------------------------------------- what stays

    def _live(self) -> tuple[set[Place], set[Place]]:
        """What Predict, and what Learn, reads of what was there before; the smallest solution."""
        predict: set[Place] = set()
        learn: set[Place] = set()
        while True:
            new_learn = _before(self.raw[LEARN], predict - self.given)
            new_predict = _before(self.raw[PREDICT], {self.prediction} | (predict | new_learn) - self.given)
            if (new_predict, new_learn) == (predict, learn):
                return predict, learn
            predict, learn = new_predict, new_learn

    def written(self) -> Written:
        """What `written` returns."""
        predict, learn = self.before
        after = (predict - self.given, (predict | learn) - self.given, predict - self.given)
        carried = self.prediction in predict
        stays = (predict | learn) - self.given
        if not carried:
            stays.discard(self.prediction)
        set_somewhere = {one.writes for part in self.raw for one in part}
        never = stays - set_somewhere
        self.names = self._attribute_names(stays - never)
        components = []
        for component in range(3):
            lasting = {place for place in after[component] if place in self.names}
            components.append(self._statements(component, lasting))
        attributes = {self.names[place]: place[0] for place in self._in_order(stays - never)}
        in_setup = {one.writes for one in self.raw[SETUP] if not one.op.reads_output} & after[SETUP]
        unset = tuple(self.names[place] for place in self._in_order(stays - never) if place not in in_setup)
        prediction = self.names.get(self.prediction, "prediction")
        addresses = {name: place for place, name in self.names.items()}
        return Written(
            attributes, unset, (components[0], components[1], components[2]), prediction, addresses, self.interface
        )

    def _in_order(self, places: set[Place]) -> list[Place]:
        met = [place for part in self.raw for one in part for place in (*one.reads, one.writes)]
        return [place for place in dict.fromkeys(met) if place in places]

    # -------------------------------------------------------------------------------------- names

    def _attribute_names(self, places: set[Place]) -> dict[Place, str]:
        """Names by what the values are for; the address where that is not clear."""
        from_predict = {one.writes for one in self.raw[PREDICT]}
        from_learn = {one.writes for one in self.raw[LEARN]}
        wanted: dict[Place, str] = {}
        for place in self._in_order(places):
            weights = place in self.known.trained | self.known.hidden and place not in from_predict
            wanted[place] = place
            if place == self.prediction:
                wanted[place] = "prediction"
            elif place in self.known.hidden and weights:
                wanted[place] = "hidden_weights"
            elif weights and self._only_added(place):
                wanted[place] = "bias" if place[0] == "s" or not self.known.hidden else "hidden_bias"
            elif self._multiplies(place) and (
                weights or (self.known.hidden and place not in from_predict | from_learn)
            ):
                wanted[place] = "output_weights" if self.known.hidden else "weights"
            elif place[0] == "s" and place not in from_predict | from_learn and self._scales_learning(place):
                wanted[place] = "learning_rate"
            elif place in from_predict and place not in self.before[0]:
                role = next(
                    text
                    for one, text in reversed(
                        list(zip(self.raw[PREDICT], self.known.instructions[PREDICT], strict=True))
                    )
                    if one.writes == place
                )
                wanted[place] = _name_for(role, place[0]) or place
        return _distinct(wanted)

    def _only_added(self, place: Place) -> bool:
        uses = [one.op.name for one in self.raw[PREDICT] if place in one.reads]
        return bool(uses) and all(name.endswith("_SUM") for name in uses)

    def _multiplies(self, place: Place) -> bool:
        return any(place in one.reads and one.op.name.endswith("_PRODUCT") for one in self.raw[PREDICT])

    def _scales_learning(self, place: Place) -> bool:
        uses = [one.op.name for one in self.raw[LEARN] if place in one.reads]
        elsewhere = any(place in one.reads for one in self.raw[PREDICT])
        return bool(uses) and not elsewhere and all(name.endswith("_PRODUCT") for name in uses)

    # -------------------------------------------------------------------------------------- statements

    def _statements(self, component: int, lasting: set[Place]) -> list[Statement]:
        now: dict[Place, str] = {}  # what is not there is 0
        if component != SETUP:
            now = {**self.names, self.features: "x"}
        if component == LEARN:
            now[self.label] = "y"
            now[self.prediction] = self.names.get(self.prediction, "prediction")
        taken = {*self.names.values(), "x", "y", "prediction"}
        last = {one.writes: i for i, one in enumerate(self.raw[component])}
        out = []
        texts = self.known.instructions[component]
        for i, (one, role) in enumerate(zip(self.raw[component], texts, strict=True)):
            inputs = tuple(now.get(place, "0") for place in one.reads)
            old = now.get(one.writes, "0") if one.op.reads_output else ""
            attribute = last[one.writes] == i and one.writes in lasting
            if attribute:
                name = self.names[one.writes]
            elif component == PREDICT and one.writes == self.prediction and last[one.writes] == i:
                name = self.names.get(self.prediction, "prediction")
                attribute = name in self.names.values()
            else:
                name = _free(_name_for(role, one.writes[0]) or f"new_{one.writes}", taken)
            taken.add(name)
            now[one.writes] = name
            out.append(
                Statement(
                    one.op, inputs, old, name, one.op.output, attribute, one.constants, one.draw, role,
                    (one.writes, *one.reads),
                )
            )  # fmt: skip
        return out


def _instructions(bare: Programs, component: int) -> Iterator[_Raw]:
    first = bare.starts[component]
    for k in range(first, first + int(np.asarray(bare.length)[0, component])):
        number, in1, in2, out = np.asarray(bare.code)[0, k].tolist()
        op, data = ops.OPS[number], np.asarray(bare.data)[0, k]
        reads = tuple(f"{kind}{at}" for kind, at in zip(op.inputs, (in1, in2), strict=False))
        constants = tuple(float(data[i]) for i in range(len(op.constants)))
        yield _Raw(op, reads, f"{op.output}{out}", constants, int(data[2]) if op.random else 0)


def _before(part: list[_Raw], after: set[Place]) -> set[Place]:
    """What is needed before some instructions."""
    needed = set(after)
    for one in reversed(part):
        if not one.op.reads_output:
            needed.discard(one.writes)
        needed |= set(one.reads) | ({one.writes} if one.op.reads_output else set())
    return needed


def _name_for(role: str, kind: str) -> str:
    """A name for a value by its role; empty without one."""
    if role == "error":
        return "error"
    if role == "activation":
        return "hidden"
    if role.startswith("layer"):
        return "before_activation" if kind == "v" else "score"
    if role == "gradient":
        return {"s": "step", "v": "gradient", "m": "gradient_matrix"}[kind]
    return ""


def _free(name: str, taken: set[str]) -> str:
    number, free = 1, name
    while free in taken:
        number += 1
        free = f"{name}_{number}"
    return free


def _distinct(wanted: dict[Place, str]) -> dict[Place, str]:
    taken: set[str] = {"x", "y"}
    out = {}
    for place, name in wanted.items():
        out[place] = _free(name, taken)
        taken.add(out[place])
    return out
