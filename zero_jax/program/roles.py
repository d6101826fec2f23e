"""What the instructions of a program are for: layers, activations, the error, gradients and updates.

Nothing is run: roles follow from where data flows.
"""

from typing import NamedTuple

from zero_jax.program import ops
from zero_jax.program.canonical import pruned
from zero_jax.program.memory import Interface, resolved
from zero_jax.program.programs import Programs
from zero_jax.program.text import to_listing

CYCLES = 3
"""How many examples data is followed through: what an example leaves in memory may matter only in the next."""

_LINEAR = {
    *("SCALAR_SUM", "SCALAR_DIFF", "SCALAR_PRODUCT", "SCALAR_VECTOR_PRODUCT", "SCALAR_MATRIX_PRODUCT", "VECTOR_SUM"),
    *("VECTOR_DIFF", "VECTOR_PRODUCT", "VECTOR_INNER_PRODUCT", "VECTOR_OUTER_PRODUCT", "MATRIX_VECTOR_PRODUCT"),
    *("MATRIX_SUM", "MATRIX_DIFF", "MATRIX_PRODUCT", "MATRIX_TRANSPOSE", "MATRIX_MATRIX_PRODUCT", "SCALAR_BROADCAST"),
    *("VECTOR_MEAN", "MATRIX_MEAN", "MATRIX_ROW_MEAN", "VECTOR_COLUMN_BROADCAST", "VECTOR_ROW_BROADCAST"),
}
"""Ops that are linear in each input: through all others a layer becomes an activation."""

_PRODUCTS = {"MATRIX_VECTOR_PRODUCT", "VECTOR_PRODUCT", "VECTOR_INNER_PRODUCT"}

Place = tuple[str, int]
"""A kind of memory and an address."""

_LABEL, _FEATURES, _PREDICTION = ("is", "label"), ("is", "features"), ("is", "prediction")


class Roles(NamedTuple):
    """What the parts of one program are for.

    Attributes:
      instructions: for each component, for each instruction its role; empty where it has none to speak of.
      hidden: the weights of hidden layers, as `m0`: their outputs pass an activation and meet further weights before
        the prediction.
      trained: those weights, of any layer, that Learn updates by label and prediction.
    """

    instructions: tuple[tuple[str, ...], ...]
    hidden: frozenset[str]
    trained: frozenset[str]

    @property
    def trains_hidden_layer(self) -> bool:
        """Whether a hidden layer is trained."""
        return bool(self.hidden & self.trained)


def roles(program: Programs, interface: Interface | None = None) -> Roles:
    """The roles in one program without dead code (`canonical.pruned`).

    Example:
      >>> from zero_jax import library
      >>> found = roles(library.program("network"))
      >>> sorted(found.hidden), sorted(found.trained), found.trains_hidden_layer
      (['m0'], ['m0', 's2', 'v1', 'v2'], True)
      >>> roles(library.program("linear")).trains_hidden_layer
      False
    """
    return _Flow(program, interface).roles()


def described(program: Programs, interface: Interface | None = None) -> str:
    """The listing of one program without dead code, with the role of each instruction behind it.

    Example:
      >>> from zero_jax import library
      >>> print(described(library.program("linear")))
      def Setup():
        s2 = 0.01
      def Predict():
        s1 = dot(v1, v0)  # prediction
      def Learn():
        s3 = s0 - s1      # error
        s3 = s2 * s3      # gradient
        v2 = s3 * v0      # gradient
        v1 = v1 + v2      # updates the weights v1
    """
    bare = pruned(program, interface)
    lines = to_listing(bare.to_lists()[0]).splitlines()
    names = iter([name for part in roles(bare, interface).instructions for name in part])
    width = max((len(line) for line in lines if line.startswith(" ")), default=0)
    out = []
    for line in lines:
        role = next(names) if line.startswith(" ") else ""
        out.append(f"{line.ljust(width)}  # {role}" if role else line)
    return "\n".join(out)


class _Instruction(NamedTuple):
    op: ops.Op
    inputs: tuple[Place, ...]
    output: Place


class _Flow:
    """Follows data through a program: `values` holds for each place what its value comes from."""

    def __init__(self, program: Programs, interface: Interface | None) -> None:
        ends = resolved(interface, program.memory)
        kinds = [(kind, n) for kind, size in zip("svm", program.memory, strict=True) for n in range(size)]
        self.label, self.features, self.prediction = (kinds[end] for end in ends)
        self.components = [
            [_instruction(row) for row in component if int(row[0])] for component in program.to_lists()[0]
        ]
        self.weights = self._read_first()
        self.values: dict[Place, frozenset[tuple[str, str]]] = {}
        self.hidden: set[str] = set()
        self.trained: set[str] = set()

    def _read_first(self) -> set[Place]:
        """What Predict reads of what an earlier example, or Setup, left."""
        written, read = {self.label, self.features}, set()
        for one in self.components[1]:
            read |= set(one.inputs) - written
            written.add(one.output)
        return read - {self.prediction}

    def roles(self) -> Roles:
        names: list[tuple[str, ...]] = []
        for _ in range(CYCLES):
            # Scratch memory keeps only what it knows of the error; weights begin each cycle with nothing.
            self.values = {
                place: flows & {_LABEL, _PREDICTION}
                for place, flows in self.values.items()
                if place not in self.weights
            }
            self.values[self.features], self.values[self.label] = frozenset([_FEATURES]), frozenset()
            predict = tuple(self._predict(one) for one in self.components[1])
            predicted = self.values.get(self.prediction, frozenset())
            self.hidden |= {name for what, name in predicted if what == "hidden"}
            self.values[self.prediction] = predicted | {_PREDICTION}
            self.values[self.label] = frozenset([_LABEL])
            learn = tuple(self._learn(one) for one in self.components[2])
            names = [("",) * len(self.components[0]), predict, learn]
        return Roles(tuple(names), frozenset(self.hidden), frozenset(self.trained))

    def _flows(self, one: _Instruction) -> frozenset[tuple[str, str]]:
        """What the output comes from."""
        sources = frozenset().union(*(self.values.get(place, frozenset()) for place in one.inputs))
        if one.op.reads_output:
            sources |= self.values.get(one.output, frozenset())
        weights = [place for place in one.inputs if place in self.weights]
        if one.op.name in _PRODUCTS and weights and _FEATURES in sources:
            sources |= {("hidden", name) for what, name in sources if what == "activation of"}
            sources |= {("layer of", _name(place)) for place in weights}
        if one.op.name not in _LINEAR:
            sources |= {("activation of", name) for what, name in sources if what == "layer of"}
        return sources

    def _predict(self, one: _Instruction) -> str:
        before = {name for what, name in self._sources(one) if what == "layer of"}
        self.values[one.output] = flows = self._flows(one)
        layers = {name for what, name in flows if what == "layer of"} - before
        if one.output == self.prediction:
            return "prediction"
        if one.op.name not in _LINEAR and before:
            return "activation"
        if layers and one.op.name in _PRODUCTS:
            return f"layer with weights {', '.join(sorted(layers))}"
        return ""

    def _sources(self, one: _Instruction) -> frozenset[tuple[str, str]]:
        return frozenset().union(*(self.values.get(place, frozenset()) for place in one.inputs))

    def _learn(self, one: _Instruction) -> str:
        flows = self._flows(one)
        self.values[one.output] = flows
        direct = self.label in one.inputs and self.prediction in one.inputs
        if direct and one.op.name.endswith("_DIFF"):
            return "error"
        if not {_LABEL, _PREDICTION} <= flows:
            return ""
        if one.output in self.weights:
            self.trained.add(_name(one.output))
            return f"updates the weights {_name(one.output)}"
        return "gradient"


def _instruction(row: list[float]) -> _Instruction:
    op = ops.OPS[int(row[0])]
    inputs = tuple((kind, int(address)) for kind, address in zip(op.inputs, row[1:3], strict=False))
    return _Instruction(op, inputs, (op.output, int(row[3])))


def _name(place: Place) -> str:
    return f"{place[0]}{place[1]}"
