"""Programs as text and back: the listing that upstream and the paper print, upstream's text proto, and JSON.

Here a program is nested lists, as in `Programs.from_lists`; `Programs` has the methods for users. Constants print as
the shortest decimal that gives the same float32 again, so every form survives a round trip.
"""

import json
import math
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from zero_jax.program import ops
from zero_jax.program.instructions import check_constant, constants_of, fields_of
from zero_jax.program.memory import COMPONENTS, MemorySize, memory_size, outside
from zero_jax.support.bounds import MAX_TEXT, check_number
from zero_jax.support.foreign import cut, shown

Instruction = list[float]
Program = list[list[Instruction]]

SCHEMA = 1
"""The version of the JSON form."""

# Not \d, which takes digits of every script.
_FLOAT = r"[-+]?(?:(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?|inf|nan)"
_NUMBER = re.compile(_FLOAT.replace("inf", "inf(?:inity)?"), re.IGNORECASE)
_ADDRESS = re.compile("[-+]?[0-9]{1,9}")
_LONGEST = 1000
"""The most characters in an instruction, in any form. Matching takes time quadratic in it at worst."""
_HEADER = re.compile(r"def\s+(\w+)\s*\(\s*\)\s*:\s*(.*)")


# ---------------------------------------------------------------------------------------------- listing


def to_listing(program: Program) -> str:
    """A program as text, one instruction a line."""
    lines = []
    for name, component in zip(COMPONENTS, program, strict=True):
        lines.append(f"def {name.capitalize()}():")
        lines += [f"  {_line(instruction)}" for instruction in component]
    return "\n".join(lines)


def _line(instruction: Instruction) -> str:
    number, *addresses = (int(n) for n in instruction[:4])
    op = ops.OPS[number]
    names = [kind + str(address) for kind, address in zip(op.inputs, addresses, strict=False)]
    a, b = [*names, "", ""][:2]
    constants = constants_of(number, instruction[4:])
    return op.form.format(*map(str, constants), a=a, b=b, o=op.output + str(addresses[2]))


def _pattern(op: ops.Op) -> re.Pattern[str]:
    text = re.escape(op.form).replace(r"\ ", r"\s*")
    kinds = dict(zip("ab", op.inputs, strict=False), o=op.output)
    for field, kind in kinds.items():
        text = text.replace(rf"\{{{field}\}}", rf"{kind}(?P<{field}>[0-9]{{1,9}})")
    for c in range(len(op.constants)):
        text = text.replace(rf"\{{{c}\}}", rf"\s*(?P<c{c}>{_FLOAT})\s*")
    # The paper leaves these arguments out.
    for implied in (r",\s*1\.0", r",\s*\(n_features,\s*n_features\)", r",\s*n_features"):
        text = text.replace(implied + r"\)", rf"(?:{implied})?\s*\)")
    return re.compile(text.replace(r"\(", r"\s*\(\s*", 1))


_PATTERNS = [(op, _pattern(op)) for op in ops.OPS]


def _constant(text: str) -> float:
    """A constant of a listing or a proto. `float` alone would accept 1_0, and read 1e400 as infinity."""
    if not _NUMBER.fullmatch(text):
        raise ValueError(f"not a number: {shown(text)}")
    value = float(text)
    if math.isinf(value) and "n" not in text.lower():
        raise ValueError(f"the constant {cut(text)} is beyond float32")
    check_constant(value)
    return value


def _short(text: str) -> str:
    """The text with single spaces; refuses one that is too long for an instruction."""
    joined = " ".join(text.split())
    if len(joined) > _LONGEST:
        raise ValueError(f"an instruction has {len(joined):,} characters; at most {_LONGEST:,} are allowed")
    return joined


def _parse_line(text: str) -> Instruction:
    for op, pattern in _PATTERNS:
        match = pattern.fullmatch(text)
        if match:
            fields = match.groupdict()
            constants = [_constant(fields[f"c{i}"]) for i in range(len(op.constants))]
            addresses = (int(fields.get(f) or 0) for f in "abo")
            return [op.number, *addresses, *fields_of(op.number, [*constants, 0.0, 0.0, 0.0][:3])]
    raise ValueError(f"cannot read {shown(text)} as an instruction")


def _read_listing(text: str) -> tuple[Program, list[list[str]]]:
    """The instructions of each component, and the place of each in the text, for error messages."""
    components: Program = [[], [], []]
    places: list[list[str]] = [[], [], []]
    seen: list[str] = []
    for number, raw in enumerate(text.splitlines(), 1):
        try:
            line = _short(raw.split("#")[0])
        except ValueError as error:
            raise ValueError(f"line {number}: {error}") from None
        header = _HEADER.fullmatch(line)
        if header:
            name = header[1].lower()
            if name not in COMPONENTS or name in seen:
                problem = "occurs twice" if name in seen else "must be Setup, Predict or Learn"
                raise ValueError(f"line {number}: function {shown(header[1])} {problem}")
            seen.append(name)
            line = header[2]
        if not line or line == "pass":
            continue
        if not seen:
            raise ValueError(f"line {number}: {shown(line)} comes before the first 'def Setup():'")
        c = COMPONENTS.index(seen[-1])
        place = f"line {number} ({seen[-1].capitalize()}, instruction {len(components[c]) + 1})"
        try:
            components[c].append(_parse_line(line))
        except ValueError as error:
            raise ValueError(f"{place}: {error}") from None
        places[c].append(place)
        check_number("instructions", sum(map(len, places)))
    if not seen:
        raise ValueError("there is no 'def Setup():', 'def Predict():' or 'def Learn():'")
    return components, places


# ---------------------------------------------------------------------------------------------- upstream's text proto

_PROTO_TITLE = "# SerializedAlgorithm"
"""A comment to protobuf; it distinguishes a proto without instructions from an empty file."""

_PROTO_NAMES = ["NO_OP", *(op.name + "_OP" for op in ops.OPS[1:])]

_PROTO_FLOATS = ("activation_data", "float_data_0", "float_data_1", "float_data_2")
_PROTO_FIELDS = ("op", "in1", "in2", "out", "activation_data", "index_data_0", *_PROTO_FLOATS[1:])
_PROTO_FIELD = re.compile(r"\s*(\w+)\s*:\s*([^\s,;]+)\s*[,;]?")


def to_proto(program: Program) -> str:
    """A program in the text form of upstream's SerializedAlgorithm, one instruction a line."""
    lines = [_PROTO_TITLE]
    for name, component in zip(COMPONENTS, program, strict=True):
        for number, in1, in2, out, *floats in component:
            values: list[Any] = [_PROTO_NAMES[int(number)], in1, in2, out, floats[0], 0, *floats[1:]]
            fields = " ".join(f"{field}: {value}" for field, value in zip(_PROTO_FIELDS, values, strict=True))
            lines.append(f"{name}_instructions {{ {fields} }}")
    return "\n".join(lines) + "\n"


def _read_proto(text: str) -> tuple[Program, list[list[str]]]:
    components: Program = [[], [], []]
    places: list[list[str]] = [[], [], []]
    *blocks, rest = re.sub(r"#.*", "", text).split("}")
    line = 1
    for number, block in enumerate([*blocks, rest]):
        head, brace, body = block.partition("{")
        name, begins = _proto_name(head, first=not number)
        line += begins
        if number == len(blocks) and not block.strip(" \t\r\n,;"):
            break
        if not brace or number == len(blocks) or "{" in body or name not in COMPONENTS:
            actual = next(filter(None, map(str.strip, block.splitlines())), "}")
            expected = "'setup_instructions { ... }' (or predict_, learn_)"
            raise ValueError(f"line {line}: expected {expected}, not {actual[:60]!r}")
        c = COMPONENTS.index(name)
        place = f"line {line} ({name.capitalize()}, instruction {len(components[c]) + 1})"
        try:
            components[c].append(_read_proto_fields(_short(body)))
        except ValueError as error:
            raise ValueError(f"{place}: {error}") from None
        places[c].append(place)
        check_number("instructions", sum(map(len, places)))
        line += block.count("\n") - begins
    return components, places


def _proto_name(head: str, first: bool) -> tuple[str, int]:
    """The component named before a brace, and how many lines after the previous block."""
    text = head.lstrip()
    if not first and text[:1] in (",", ";"):
        text = text[1:].lstrip()
    lines = head.count("\n", 0, len(head) - len(text))
    return text.rstrip().removesuffix(":").rstrip().removesuffix("_instructions"), lines


def _read_proto_fields(text: str) -> Instruction:
    rest = _PROTO_FIELD.sub("", text).strip()
    if rest:
        raise ValueError(f"cannot read {shown(rest)} as 'field: value'")
    pairs = _PROTO_FIELD.findall(text)
    fields = dict(pairs)
    if len(fields) < len(pairs):
        raise ValueError("a field occurs twice")
    unknown = [field for field in fields if field not in _PROTO_FIELDS]
    if unknown:
        raise ValueError(f"unknown field {shown(unknown[0])}")
    op = ops.number_of(fields.get("op", "NO_OP"))
    given = [fields.get(field, "0") for field in ("in1", "in2", "out")]
    wrong = next((text for text in given if not _ADDRESS.fullmatch(text)), None)
    if wrong is not None:
        raise ValueError(f"not an address: {shown(wrong)}")
    addresses = [int(text) for text in given]
    constants = [_constant(fields.get(field, "0")) for field in _PROTO_FLOATS]
    return [op, *addresses, *constants]


# ---------------------------------------------------------------------------------------------- JSON


class Stored(NamedTuple):
    """What the JSON form holds, unchecked.

    Attributes:
      programs: nested lists, as `Programs.from_lists` takes them.
      memory: (scalars, vectors, matrices).
      capacity: slots per component, or None.
    """

    programs: Any
    memory: Any
    capacity: Any


def to_json(programs: list[Program], memory: Sequence[int], capacity: Sequence[int]) -> str:
    """Programs as JSON; infinities and NaN, which JSON lacks, are strings."""

    def plain(x: float) -> float | str:
        return x if math.isfinite(x) else str(x)

    lists = [[[[*row[:4], *map(plain, row[4:])] for row in component] for component in program] for program in programs]
    return json.dumps({"schema": SCHEMA, "memory": list(memory), "capacity": list(capacity), "programs": lists})


def is_json(text: str) -> bool:
    """Whether a text is meant to be JSON, rather than a listing or a text proto."""
    return text.lstrip().startswith(("{", "["))


def from_json(text: str) -> Stored:
    """The inverse of `to_json`.

    Raises:
      ValueError: text that is not JSON, another schema, or a missing field.
    """
    _check_length(text)
    try:
        tree = json.loads(text, parse_float=_json_real, parse_int=_json_integer)
    except RecursionError:
        raise ValueError("not JSON: lists are nested too deeply") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON: {error}") from None
    if not isinstance(tree, dict) or any(key not in tree for key in ("schema", "memory", "programs")):
        raise ValueError("a program in JSON must be an object with schema, memory, capacity and programs")
    schema = tree["schema"]
    if schema != SCHEMA or not isinstance(schema, int) or isinstance(schema, bool):
        raise ValueError(f"schema {shown(schema)} is not {SCHEMA}, which this version reads")
    return Stored(tree["programs"], tree["memory"], tree.get("capacity"))


_BEYOND = 10**400
"""Stands for a number beyond all floats, which is refused later, where its place is known."""


def _json_real(text: str) -> float:
    value = float(text)
    return _BEYOND if math.isinf(value) else value


def _json_integer(text: str) -> int:
    return int(text) if len(text) < 400 else _BEYOND


def _check_length(text: str) -> None:
    if len(text) > MAX_TEXT:
        raise ValueError(f"the text has {len(text):,} characters; at most {MAX_TEXT:,} are allowed")


# ---------------------------------------------------------------------------------------------- listing or proto


def read(text: str, memory: Sequence[int] | None) -> tuple[Program, MemorySize]:
    """The program in a listing or a text proto, whichever `text` is, and its memory size.

    Args:
      text: what to read.
      memory: (scalars, vectors, matrices); by default the smallest that holds every address.

    Raises:
      ValueError: naming line, component and instruction.
    """
    _check_length(text)
    is_proto = text.startswith(_PROTO_TITLE) or re.search(r"_instructions\s*(?::\s*)?\{", text)
    components, places = _read_proto(text) if is_proto else _read_listing(text)
    size = memory_size(memory) if memory is not None else _smallest_memory(components)
    for rows, where in zip(components, places, strict=True):
        for row, place in zip(rows, where, strict=True):
            _check_addresses(row, place, size)
    return components, size


def _operands(row: Instruction) -> list[tuple[str, int]]:
    op = ops.OPS[int(row[0])]
    used = [*zip(op.inputs, row[1:3], strict=False), *([(op.output, row[3])] if op.output else [])]
    return [(kind, int(address)) for kind, address in used]


def _check_addresses(row: Instruction, place: str, memory: MemorySize) -> None:
    for kind, address in _operands(row):
        if not 0 <= address < memory[ops.KINDS.index(kind)]:
            raise ValueError(f"{place}: {outside(kind, address, memory)}")


def _smallest_memory(components: Program) -> MemorySize:
    size = {"s": 2, "v": 1, "m": 0}
    for kind, address in (operand for rows in components for row in rows for operand in _operands(row)):
        size[kind] = max(size[kind], address + 1)
    return MemorySize(*size.values())
