"""Programs as text: listings, upstream's protos and JSON, mutated."""

import functools
import json
import random

import numpy as np
import pytest

from tests.fuzz.fuzzing import check_message, dumped, mutated_bytes, mutated_text, mutated_tree, refusals
from zero_jax import MemorySize, SearchSpace, library
from zero_jax.program import ops
from zero_jax.program.programs import Programs
from zero_jax.program.space import Component, random_programs

TRIED = 2  # programs of an accepted batch


def random_space(rng):
    memory = MemorySize(rng.randint(3, 12), rng.randint(2, 12), rng.randint(1, 6))
    numbers = [tuple(rng.sample(range(len(ops.OPS)), rng.randint(1, 20))) for _ in range(3)]
    sizes = tuple(rng.randint(1, 9) for _ in range(3))
    parts = [Component(ops, (0, n, n + rng.randint(0, 3))) for ops, n in zip(numbers, sizes, strict=True)]
    return SearchSpace(memory, *parts)


@functools.cache
def corpus(form):
    """Programs of the library and of random spaces, each as a text."""
    rng = random.Random(0)
    batches = [library.program(name) for name in library.NAMES]
    batches += [random_programs(random_space(rng), rng.randint(1, 3), np.random.default_rng(i)) for i in range(30)]
    write = {"listing": Programs.listing, "proto": Programs.to_proto, "json": Programs.to_json}[form]
    return [write(batch) for batch in batches]


def assert_equal(one, other):
    assert (one.memory, one.capacity) == (other.memory, other.capacity)
    for name in ("code", "data", "length"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


def assert_sound(programs):
    """They are what they claim, and come back from every form."""
    programs.check()
    assert_equal(Programs.from_json(programs.to_json()), programs)
    for i in range(min(TRIED, len(programs))):
        for write in (Programs.listing, Programs.to_proto):
            text = write(programs, i)
            assert text.replace("\n", "").isprintable()
            assert_equal(Programs.parse(text, programs.memory, programs.capacity), programs[i : i + 1])


def mutated(rng, form):
    """A text, or bytes that may be none."""
    text, others = rng.choice(corpus(form)), corpus(rng.choice(["listing", "proto", "json"]))
    if form == "json" and rng.randrange(3):
        text = dumped(mutated_tree(rng, json.loads(text)))
    way = rng.randrange(4)
    if way == 0:
        return mutated_bytes(rng, text.encode(), [other.encode() for other in others])
    if way == 1 and form == "json":
        return text
    return mutated_text(rng, text, others)


@pytest.mark.parametrize(("form", "count"), [("listing", 300), ("proto", 300), ("json", 300)])
def test_texts_are_programs_or_refused(fuzz, tmp_path, form, count):
    file = tmp_path / "program"

    def attempt(rng):
        text = mutated(rng, form)
        if isinstance(text, str):
            with refusals():
                programs = Programs.parse(text)
        else:
            file.write_bytes(text)
            with refusals():
                programs = library.load(str(file))
        assert_sound(programs)

    fuzz(f"{form}s", count, attempt)


def test_messages_are_held_to_what_people_can_read():
    with pytest.raises(AssertionError):
        check_message("red: \x1b[31m")
    with pytest.raises(AssertionError):
        check_message("x" * 1000)
