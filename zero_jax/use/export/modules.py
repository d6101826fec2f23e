"""A program as a module of its own, which needs NumPy or JAX alone."""

import re
import textwrap
from collections.abc import Callable
from typing import Literal

import numpy as np

from zero_jax.program.memory import Interface
from zero_jax.program.programs import Programs
from zero_jax.program.statements import LEARN, PREDICT, SETUP, Statement, Written, written
from zero_jax.support.bounds import check_number
from zero_jax.use.export.forms import HELPERS, form

Target = Literal["numpy", "jax"]

Named = Callable[[str], str]


def exported(program: Programs, to: Target, classes: int = 0, about: str = "") -> str:
    """One program as Python source.

    Args:
      program: one program.
      to: `numpy`, a class `Model`; or `jax`, pure functions `init`, `predict`, `learn` and `fit`.
      classes: 0 for regression; how many classes otherwise. With more than two, labels are vectors.
      about: where the program comes from and what it scored, for the docstring.

    Raises:
      ValueError: not one program, or an unknown target.

    Example:
      >>> from zero_jax import library
      >>> print(exported(library.program("linear"), "numpy").split("class")[1])  # doctest: +ELLIPSIS
       Model:
      ...
    """
    if len(program) != 1:
        raise ValueError(f"one program is exported at a time, not {len(program)}: choose one, as in programs[0]")
    if to not in ("numpy", "jax"):
        raise ValueError(f"programs are exported to 'numpy' or 'jax', not {to!r}")
    if classes:
        check_number("classes", classes)
    several = classes if classes > 2 else 0
    interface = Interface.vector(program.memory) if several else None
    return _Module(written(program, interface), to, classes, about).source()


class _Module:
    """Source of one program; `np` is the name of the array module, `own` prefixes attributes."""

    def __init__(self, found: Written, to: Target, classes: int, about: str) -> None:
        self.found, self.classes, self.about = found, classes, about
        self.np, self.own, self.jax = ("np", "self.", False) if to == "numpy" else ("jnp", "", True)
        self.counted = [any(one.op.random for one in found.components[part]) for part in (PREDICT, LEARN)]

    def source(self) -> str:
        """The whole module."""
        body = self._functions() if self.jax else self._model()
        helpers = [HELPERS[name] for name in HELPERS if re.search(rf"\b{name}\(", body)]
        helpers += [_ACTIVATIONS[min(self.classes, 3)]] if self.classes else []
        if any("drawn" in text for text in helpers) and HELPERS["draws"] not in helpers:
            helpers.insert(0, HELPERS["draws"])
        shared = "".join(f"\n{text}" for text in helpers).replace("{np}", self.np)
        shared = shared.replace("{replace}", _REPLACE_JAX if self.jax else _REPLACE_NUMPY)
        imports = "import math\n\n" if "math." in shared + body else ""
        imports += "import jax\nimport jax.numpy as jnp\nimport numpy as np\n" if self.jax else "import numpy as np\n"
        return f'"""{self._about()}"""\n\n{imports}{shared}\n{body}'

    def _about(self) -> str:
        lead = self.about or "A learning algorithm."
        use = (
            "state = init(n_features); state = fit(state, x, y); predict(state, x)"
            if self.jax
            else "model = Model(n_features); model.fit(x, y); model.predict(x)"
        )
        labels = {0: "numbers", 1: "classes"}[min(self.classes, 1)]
        text = (
            f"{lead}\n\nWritten by zero-jax; needs {'JAX' if self.jax else 'NumPy'} alone. `{use}`, with x `[N, F]` and"
        )
        text += f" y `[N]`, {labels}."
        if self.classes > 2:
            text += f" There are at least {self.classes} features: add columns of zeros if there are fewer."
        return "\n".join(line for part in text.split("\n") for line in (textwrap.wrap(part, 110) if part else [""])) + (
            "\n" if "\n" in text else ""
        )

    # -------------------------------------------------------------------------------------- statements

    def _lines(self, component: int) -> list[str]:
        out = []
        for one in self.found.components[component]:
            name = self.own + one.output if one.attribute else one.output
            out.append(f"{name} = {self._value(component, one)}")
        return out

    def _value(self, component: int, one: Statement) -> str:
        names = [self._named(name) for name in one.inputs]
        kinds = list(one.op.inputs)
        text = form(one.op)
        mixes = kinds == [one.kind] * 2 and one.inputs[0] != "0" and "@" not in text  # element by element
        for i, name in enumerate(one.inputs):
            if name == "0":
                names[i] = "0.0" if mixes and i else self._zeros(kinds[i])
        if text == "{np}.where({a} < {b}, {b}, {a})" and one.inputs[1] == "0":
            text = "{np}.maximum({a}, {b})"
        if text == "{np}.where({b} < {a}, {b}, {a})" and one.inputs[1] == "0":
            text = "{np}.minimum({a}, {b})"
        a, b = [*names, "", ""][:2]
        old = self._zeros(one.kind) if one.old == "0" else self._named(one.old)
        constants = [_number(value) for value in one.constants]
        draw = f"draws({self.own}seed, {self._draw(component, one.draw)}, {self._shape(one.kind)})"
        return text.format(*constants, a=a, b=b, old=old, n=self.own + "n_features", np=self.np, draw=draw)

    def _named(self, name: str) -> str:
        return self.own + name if name in self.found.attributes else name

    def _shape(self, kind: str) -> str:
        n = self.own + "n_features"
        return {"s": "()", "v": f"({n},)", "m": f"({n}, {n})"}[kind]

    def _zeros(self, kind: str) -> str:
        if kind == "s":
            return f"{self.np}.float32(0)"
        return f"{self.np}.zeros({self._shape(kind)}, {self.np}.float32)"

    def _draw(self, component: int, ordinal: int) -> str:
        """As `stream.draw_number`."""
        fixed = ordinal << 2 | component
        run = {PREDICT: "predicted", LEARN: "learned"}.get(component)
        return f"({self.own}{run} << 10) + {fixed}" if run else str(fixed)

    def _activated(self, name: str) -> str:
        if not self.classes:
            return name
        return f"sigmoid({name})" if self.classes == 2 else f"softmax({name}, {self.classes})"

    def _label(self) -> list[str]:
        if self.classes <= 2:
            return []
        float32 = f"{self.np}.float32"
        return [f"y = ({self.np}.arange({self.own}n_features, dtype={float32}) == y).astype({float32})"]

    def _no_prediction(self) -> list[str]:
        """Where Predict leaves the prediction as it is."""
        found = self.found
        if found.prediction in found.attributes or any(one.output == "prediction" for one in found.components[PREDICT]):
            return []
        return [f"prediction = {'0.0' if self.classes < 3 else self._zeros('v')}"]

    # -------------------------------------------------------------------------------------- NumPy

    def _model(self) -> str:
        found = self.found
        start = ["self.n_features, self.seed = n_features, seed"]
        start += [f"self.{name} = {self._zero_of(name)}" for name in found.unset]
        start += [f"self.{name} = 0" for name, used in zip(("predicted", "learned"), self.counted, strict=True) if used]
        prediction = self._named(found.prediction)
        predict = [*self._no_prediction(), *self._lines(PREDICT)]
        predict += ["self.predicted += 1"] if self.counted[0] else []
        learn = [f"{prediction} = self.predict_one(x)", *self._label(), *self._lines(LEARN)]
        learn += ["self.learned += 1"] if self.counted[1] else []
        decide = {0: "", 1: " > 0.5"}[min(self.classes, 1)]
        one = "self.predict_one(row)"
        if self.classes > 2:
            one, decide = f"{one}[: {self.classes}]", ".argmax(1)"
        returned = self._activated(prediction)
        what = {0: "The prediction", 1: "The probability of class 1", 2: "Probabilities of the classes"}
        outcome = what[0 if not self.classes else 1 if self.classes <= 2 else 2]
        return (
            f'''
class Model:
    """Learns one example at a time."""

    def __init__(self, n_features, seed=0):
        {_indented(start, 8)}
        self.setup()

    @np.errstate(all="ignore")
    def setup(self):
        {_indented(self._lines(SETUP) or ["pass"], 8)}

    @np.errstate(all="ignore")
    def predict_one(self, x):
        """{outcome} for one example `[F]`."""
        {_indented(predict, 8)}
        return {returned}

    @np.errstate(all="ignore")
    def learn_one(self, x, y):
        """Learns from one example `[F]` and its label."""
        {_indented(learn, 8)}

    def fit(self, x, y, epochs=1):
        """Learns from examples `[N, F]` and labels `[N]`, one after the other."""
        for _ in range(epochs):
            for row, label in zip(np.asarray(x, np.float32), np.asarray(y, np.float32)):
                self.learn_one(row, label)
        return self

    def predict(self, x):
        """{"Classes" if self.classes else "Predictions"} `[N]` for examples `[N, F]`."""
        {"scores =" if decide else "return"} np.array([{one} for row in np.asarray(x, np.float32)])
'''.rstrip("\n")
            + (f"\n        return (scores{decide}).astype(int)\n" if decide else "\n")
        )

    def _zero_of(self, name: str) -> str:
        return self._zeros(self.found.attributes[name])

    # -------------------------------------------------------------------------------------- JAX

    def _functions(self) -> str:
        found = self.found
        counters = [name for name, used in zip(("predicted", "learned"), self.counted, strict=True) if used]
        draws = [*counters, *(["seed"] if counters else [])]
        names = [*found.attributes, *draws]
        start = [f"{name} = {self._zero_of(name)}" for name in found.unset]
        start += [f"{name} = jnp.uint32(0)" for name in counters]
        state = "{" + ", ".join(f'"{name}": {name}' for name in names) + "}"
        unpack = [f'{name} = state["{name}"]' for name in names]
        size = ["n_features = x.shape[-1]"] if "n_features" in "".join(
            [*self._lines(PREDICT), *self._lines(LEARN), *self._label(), *self._no_prediction()]
        ) else []  # fmt: skip
        predict = [*size, *unpack, *self._no_prediction(), *self._lines(PREDICT)]
        predict += ["predicted = predicted + 1"] if self.counted[0] else []
        prediction = found.prediction
        learn = [*size, "prediction, state = predict_one(state, x)"]
        learn += [line for line in unpack if not line.startswith("prediction =")]
        learn += [*self._label(), *self._lines(LEARN)]
        learn += ["learned = learned + 1"] if self.counted[1] else []
        chosen = "jax.vmap(lambda row: predict_one(state, row)[0])(jnp.asarray(x, jnp.float32))"
        if self.classes > 2:
            chosen = f"{chosen}[:, : {self.classes}].argmax(1)"
        elif self.classes:
            chosen = f"({chosen} > 0.5).astype(int)"
        return f'''
def init(n_features, seed=0):
    """The state before the first example."""
    {_indented([*start, *self._lines(SETUP)] or ["pass"], 4)}
    return {state}


def predict_one(state, x):
    """The prediction for one example `[F]`, and the state after it."""
    {_indented(predict, 4)}
    return {self._activated(prediction)}, {state}


def learn(state, x, y):
    """The state after one example `[F]` and its label."""
    {_indented(learn, 4)}
    return {state}


def fit(state, x, y, epochs=1):
    """The state after examples `[N, F]` and labels `[N]`, one after the other."""
    x, y = (jnp.tile(jnp.asarray(part, jnp.float32), (epochs, *[1] * (part.ndim - 1))) for part in (x, y))
    return jax.lax.scan(lambda state, example: (learn(state, *example), None), state, (x, y))[0]


def predict(state, x):
    """{"Classes" if self.classes else "Predictions"} `[N]` for examples `[N, F]`."""
    return {chosen}
'''


_REPLACE_NUMPY = "values = values.copy()\n    values[at] = value\n    return values"
_REPLACE_JAX = "return values.at[at].set(value)"

_SIGMOID = '''
def sigmoid(x):
    """From a score to a probability."""
    return 1.0 / (1.0 + {np}.exp(-x))
'''

_SOFTMAX = '''
def softmax(scores, classes):
    """Probabilities in place of the scores of the classes; other elements stay."""
    each = {np}.exp(scores[:classes] - {np}.max(scores[:classes]))
    return {np}.concatenate([each / {np}.sum(each), scores[classes:]])
'''

_ACTIVATIONS = {1: _SIGMOID, 2: _SIGMOID, 3: _SOFTMAX}


def _indented(lines: list[str], by: int) -> str:
    return ("\n" + " " * by).join(lines)


def _number(value: float) -> str:
    """A constant as Python; the shortest decimal that is the same float32."""
    if value != value:
        return "np.nan"
    if value in (float("inf"), float("-inf")):
        return "np.inf" if value > 0 else "-np.inf"
    return str(np.float32(value))
