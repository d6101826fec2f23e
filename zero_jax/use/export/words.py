"""A program in LaTeX, and in words."""

from typing import NamedTuple

import numpy as np

from zero_jax.executors.api import evaluate
from zero_jax.executors.fitness import program_fitness
from zero_jax.program.canonical import pruned
from zero_jax.program.memory import Interface
from zero_jax.program.programs import Programs, concatenate
from zero_jax.program.statements import Statement, written
from zero_jax.program.text import to_listing
from zero_jax.tasks import Tasks

_SYMBOLS = {
    "x": r"\mathbf{x}",
    "y": "y",
    "prediction": r"\hat{y}",
    "learning_rate": r"\eta",
    "error": r"\delta",
    "weights": r"\mathbf{w}",
    "output_weights": r"\mathbf{w}",
    "hidden_weights": r"\mathbf{M}",
    "bias": "b",
    "hidden_bias": r"\mathbf{b}",
    "hidden": r"\mathbf{h}",
    "before_activation": r"\mathbf{a}",
    "score": "a",
    "step": r"\varepsilon",
    "gradient": r"\mathbf{g}",
    "gradient_matrix": r"\mathbf{G}",
}
"""By name, without its number."""

_INFIX = {"SUM": "{a} + {b}", "DIFF": "{a} - {b}", "DIVISION": r"{a} \oslash {b}"}

_LATEX = {
    "SCALAR_DIVISION": r"\frac{{{a}}}{{{b}}}",
    "SCALAR_PRODUCT": "{a} \\, {b}",
    "SCALAR_VECTOR_PRODUCT": "{a} \\, {b}",
    "SCALAR_MATRIX_PRODUCT": "{a} \\, {b}",
    "VECTOR_PRODUCT": r"{a} \odot {b}",
    "MATRIX_PRODUCT": r"{a} \odot {b}",
    "VECTOR_INNER_PRODUCT": r"{a}^\top {b}",
    "VECTOR_OUTER_PRODUCT": r"{a} {b}^\top",
    "MATRIX_VECTOR_PRODUCT": "{a} {b}",
    "MATRIX_MATRIX_PRODUCT": "{a} {b}",
    "MATRIX_TRANSPOSE": r"{a}^\top",
    "SCALAR_BROADCAST": r"{a} \mathbf{{1}}",
    "VECTOR_COLUMN_BROADCAST": r"{a} \mathbf{{1}}^\top",
    "VECTOR_ROW_BROADCAST": r"\mathbf{{1}} {a}^\top",
    "VECTOR_NORM": r"\lVert {a} \rVert",
    "MATRIX_NORM": r"\lVert {a} \rVert_F",
    "SCALAR_CONST_SET": "{0}",
    "VECTOR_CONST_SET": r"{old} \text{{ with element }} {0} \text{{ replaced by }} {1}",
    "MATRIX_CONST_SET": r"{old} \text{{ with element }} ({0}, {1}) \text{{ replaced by }} {2}",
}

_NAMES = {
    "HEAVYSIDE": "H", "ABS": r"\operatorname{abs}", "SIN": r"\sin", "COS": r"\cos", "TAN": r"\tan",
    "ARCSIN": r"\arcsin", "ARCCOS": r"\arccos", "ARCTAN": r"\arctan", "EXP": r"\exp", "LOG": r"\log",
    "MIN": r"\min", "MAX": r"\max", "MEAN": r"\operatorname{mean}", "ST_DEV": r"\operatorname{std}",
    "ROW_MEAN": r"\operatorname{mean}_{\text{rows}}", "ROW_ST_DEV": r"\operatorname{std}_{\text{rows}}",
    "ROW_NORM": r"\operatorname{norm}_{\text{rows}}", "COLUMN_NORM": r"\operatorname{norm}_{\text{columns}}",
    "UNIFORM_SET": r"\mathcal{U}", "GAUSSIAN_SET": r"\mathcal{N}",
}  # fmt: skip

_WORDS = {
    "SUM": "the sum of {a} and {b}",
    "DIFF": "{a} less {b}",
    "PRODUCT": "{a} times {b}",
    "DIVISION": "{a} divided by {b}",
    "INNER_PRODUCT": "the inner product of {a} and {b}",
    "OUTER_PRODUCT": "the outer product of {a} and {b}",
    "VECTOR_PRODUCT": "{a} times {b}",
    "MATRIX_PRODUCT": "{a} times {b}",
    "ABS": "the magnitude of {a}",
    "RECIPROCAL": "1 divided by {a}",
    "HEAVYSIDE": "1 where {a} is positive, 0 elsewhere",
    "MIN": "the smaller of {a} and {b}",
    "MAX": "the larger of {a} and {b}",
    "MEAN": "the mean of {a}",
    "ROW_MEAN": "the mean of each row of {a}",
    "ST_DEV": "the standard deviation of {a}",
    "ROW_ST_DEV": "the standard deviation of each row of {a}",
    "NORM": "the norm of {a}",
    "ROW_NORM": "the norm of each row of {a}",
    "COLUMN_NORM": "the norm of each column of {a}",
    "TRANSPOSE": "{a} transposed",
    "BROADCAST": "{a} everywhere",
    "COLUMN_BROADCAST": "{a} in every column",
    "ROW_BROADCAST": "{a} in every row",
    "CONST_SET": "a constant",
    "UNIFORM_SET": "uniform random numbers",
    "GAUSSIAN_SET": "Gaussian random numbers",
}
"""By the end of an op's name, without the kind in front."""


def latex(program: Programs, interface: Interface | None = None) -> str:
    r"""One program as numbered equations, those of Setup, Predict and Learn under a heading each.

    Example:
      >>> from zero_jax import library
      >>> print(latex(library.program("linear")).splitlines()[4])
      \hat{y} &= \mathbf{w}^\top \mathbf{x} \\
    """
    found = written(program, interface)
    lines: list[str] = []
    for name, statements in zip(("Setup", "Predict", "Learn"), found.components, strict=True):
        if statements:
            lines += [rf"\text{{{name}}}\nonumber \\"] if lines else [r"\begin{align}", rf"\text{{{name}}}\nonumber \\"]
            lines += [rf"{_symbol(one.output, one.kind)} &{_arrow(one)} {_formula(one)} \\" for one in statements]
    if not lines:
        return r"\begin{align}\end{align}"
    lines[-1] = lines[-1].removesuffix(r" \\")
    return "\n".join([*lines, r"\end{align}"])


def _arrow(one: Statement) -> str:
    """Whether a value is defined, or an old one replaced."""
    return r"\leftarrow" if one.output in one.inputs or one.old == one.output else "="


def _symbol(name: str, kind: str) -> str:
    base, _, number = name.rpartition("_")
    base, number = (base, number) if number.isdigit() and base else (name, "")
    base = base.removeprefix("new_")
    prime = "'" * name.startswith("new_")
    if base in _SYMBOLS:
        return _SYMBOLS[base] + (f"_{{{number}}}" if number else "") + prime
    letter, address = base[0], base[1:]
    letter = {"s": "s", "v": r"\mathbf{v}", "m": r"\mathbf{M}"}.get(letter if address.isdigit() else kind, letter)
    return f"{letter}_{{{address}{f',{number}' if number else ''}}}{prime}"


def _formula(one: Statement) -> str:
    names = [_symbol(name, kind) if name != "0" else "0" for name, kind in zip(one.inputs, one.op.inputs, strict=True)]
    a, b = [*names, "", ""][:2]
    constants = [f"{value:.3g}" for value in one.constants]
    last = one.op.name.split("_", 1)[1]
    if one.op.name in _LATEX:
        return _LATEX[one.op.name].format(*constants, a=a, b=b, old=_symbol(one.old, one.kind) if one.old else "")
    if last == "RECIPROCAL":
        return f"1 / {a}"
    if last in _INFIX:
        return _INFIX[last].format(a=a, b=b)
    return f"{_NAMES[last]}({', '.join([*filter(None, (a, b)), *constants])})"


class Contribution(NamedTuple):
    """What one instruction contributes.

    Attributes:
      component: Setup, Predict or Learn.
      code: the instruction in named values.
      words: what it computes, and its role.
      lost: the fitness lost without it, NaN if it was not measured.
    """

    component: str
    code: str
    words: str
    lost: float


def contributions(program: Programs, tasks: Tasks | None = None, seed: int = 0) -> list[Contribution]:
    """What each live instruction of one program computes, and the mean fitness lost when it is removed.

    Args:
      program: one program.
      tasks: on which the fitness is measured; None leaves it out.
      seed: of random instructions.
    """
    interface = Interface.of(program.memory, tasks) if tasks is not None else None
    found, bare = written(program, interface), pruned(program, interface)
    lost = np.full(sum(map(len, found.components)), np.nan)
    if tasks is not None and len(lost):
        fitness = program_fitness(evaluate(concatenate([bare, *_without_each(bare)]), tasks, seed).fitness)
        lost = fitness[0] - fitness[1:]
    out: list[Contribution] = []
    for name, component in zip(("Setup", "Predict", "Learn"), found.components, strict=True):
        for one in component:
            out.append(Contribution(name, f"{one.output} = {_code(one)}", _words(one), float(lost[len(out)])))
    return out


def _without_each(bare: Programs) -> list[Programs]:
    """The program without each of its instructions in turn."""
    lists = bare.to_lists()[0]
    out = []
    for c, component in enumerate(lists):
        for k in range(len(component)):
            rest = [part if i != c else part[:k] + part[k + 1 :] for i, part in enumerate(lists)]
            out.append(Programs.from_lists([rest], bare.memory, bare.capacity))
    return out


def _code(one: Statement) -> str:
    """As in a listing, with names."""
    names = [name if name != "0" else "0" for name, kind in zip(one.inputs, one.op.inputs, strict=True)]
    if one.op.constants:
        text = one.op.form.format(*[f"{value:.3g}" for value in one.constants], a="", b="", o=one.output)
        return text.split(" = ", 1)[1]
    return one.op.form.format(a=[*names, ""][0], b=[*names, "", ""][1], o="").split(" = ", 1)[1]


def _words(one: Statement) -> str:
    names = [f"`{name}`" if name != "0" else "0" for name in one.inputs]
    a, b = [*names, "", ""][:2]
    last = one.op.name.split("_", 1)[1]
    text = _WORDS.get(last, f"the {last.lower().replace('_', ' ')} of {{a}}").format(a=a, b=b)
    return f"{text}: {one.role}" if one.role else text


def markdown(program: Programs, tasks: Tasks | None = None, seed: int = 0, about: str = "") -> str:
    """An explanation of one program in Markdown: what every instruction computes, and what is lost without it.

    Args:
      program: as in `contributions`.
      tasks: as in `contributions`.
      seed: as in `contributions`.
      about: where the program comes from.
    """
    parts = contributions(program, tasks, seed)
    measured = tasks is not None
    out = ["# A learning algorithm", "", *([about, ""] if about else [])]
    if tasks is not None:
        out += [f"Fitness lost is the mean over {len(tasks)} tasks ({tasks!r}) when the instruction is removed.", ""]
    for name in dict.fromkeys(part.component for part in parts):
        out += [f"## {name}", "", f"| code | what it computes |{' fitness lost |' * measured}"]
        out += ["|---" * (2 + measured) + "|"]
        for part in parts:
            if part.component == name:
                cell = f" {part.lost:.3f} |" if measured else ""
                out.append(f"| `{part.code}` | {part.words} |{cell}")
        out.append("")
    interface = Interface.of(program.memory, tasks) if tasks is not None else None
    listing = to_listing(pruned(program, interface).to_lists()[0])
    return "\n".join([*out, "## Listing", "", "```python", listing, "```", ""])
