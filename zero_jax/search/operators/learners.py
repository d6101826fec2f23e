"""Programs that can learn and are new: what a search that wastes no evaluations asks for.

Axes: `n` programs.
"""

from collections.abc import Callable

import numpy as np

from zero_jax.program.canonical import canonical
from zero_jax.program.memory import Interface
from zero_jax.program.programs import Programs, concatenate
from zero_jax.program.space import SearchSpace
from zero_jax.search.operators.mutation import Mutations, mutate_in_place, vary_initial_values
from zero_jax.search.operators.validity import CONDITIONS, conditions
from zero_jax.support.compiled import entry_point

REDRAWN = 0.15
"""How often an initial value of a further set is drawn anew."""

DRAWN, DRAWS = 20_000, 60
"""First programs are drawn this many at a time, this often at most."""

ANEW = Mutations(types=("randomize_algorithm",), probability=1.0)

TRIES = (2, 4, 8)
"""How many mutants of a parent are made in each round until one is new and can learn."""


def blank(space: SearchSpace, n: int) -> Programs:
    """`n` empty programs of a space."""
    slots = sum(space.capacity)
    code, data = np.zeros((n, slots, 4), np.int32), np.zeros((n, slots, 3), np.float32)
    return Programs(code, data, np.zeros((n, 3), np.int32), space.capacity, space.memory)


def copied(programs: Programs) -> Programs:
    """A copy."""
    return programs.with_arrays(*(np.array(part) for part in (programs.code, programs.data, programs.length)))


def copy_rows(to: Programs, rows: np.ndarray, source: Programs, which: np.ndarray) -> None:
    """Copies some programs over others, in place."""
    to.code[rows], to.data[rows], to.length[rows] = source.code[which], source.data[which], source.length[which]


def new_learners(
    programs: Programs, known: np.ndarray, interface: Interface | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """`[n]` which programs can learn and are new, each once, and the hashes of all.

    Args:
      programs: `n` programs.
      known: uint64, hashes of known programs, each in the place that its last bits say.
      interface: where label, features and prediction are; None for scalar labels.
    """
    form = canonical(programs, interface=interface)
    hashes = form.hashes[:, 0]
    new = np.zeros(len(hashes), bool)
    new[np.unique(hashes, return_index=True)[1]] = True
    new &= known[hashes % len(known)] != hashes
    rows = np.flatnonzero(new)
    new[rows] = conditions(form.programs[rows], interface) == CONDITIONS
    return new, hashes


def remember(hashes: np.ndarray, known: np.ndarray) -> None:
    """Adds hashes to known ones, in place."""
    known[hashes % len(known)] = hashes


def random_learners(
    seat: Callable[[Programs, np.ndarray], None],
    wanted: np.ndarray,
    enough: int,
    known: np.ndarray,
    space: SearchSpace,
    rng: np.random.Generator,
    interface: Interface | None = None,
) -> tuple[Programs, np.ndarray]:
    """Random programs that can learn and are new, and the niches that they are for.

    After a draw that yields none, Learn is one instruction longer; if it cannot be, the draws end.

    Args:
      seat: gives programs the Predict of niches, in place.
      wanted: int64 `[N]`, how many programs of each niche at most.
      enough: how many in all.
      known: as in `new_learners`; the programs are added.
      space: the program space.
      rng: where randomness comes from; it is advanced.
      interface: as in `new_learners`.

    Raises:
      ValueError: there is none.
    """
    missing, size = wanted.copy(), space.initial_size[2]
    parts: list[tuple[Programs, np.ndarray]] = []
    for _ in range(DRAWS):
        open_ = np.flatnonzero(missing)
        niches = np.repeat(open_, max(1, DRAWN // len(open_)))
        programs = blank(space, len(niches))
        programs.length[:] = space.initial_size
        programs.length[:, 2] = size
        mutate_in_place(programs, space, ANEW, rng)
        seat(programs, niches)
        new, hashes = new_learners(programs, known, interface)
        rows = np.flatnonzero(new)
        rank = np.arange(len(rows)) - np.searchsorted(niches[rows], niches[rows])  # among those of its niche
        rows = rows[rank < missing[niches[rows]]]
        if len(rows):
            remember(hashes[rows], known)
            np.subtract.at(missing, niches[rows], 1)
            parts.append((programs[rows], niches[rows]))
        size += not len(rows)
        if wanted.sum() - missing.sum() >= enough or size > space.max_size[2]:
            break
    if not parts:
        raise ValueError(
            "no program that can learn from its mistakes was found in this space: give Learn more ops or more "
            "instructions, or use --method evolution"
        )
    return concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts])


def new_mutants(
    parents: Programs,
    mutate: Callable[[Programs], np.ndarray],
    known: np.ndarray,
    interface: Interface | None = None,
    unevaluated: np.ndarray | None = None,
) -> tuple[Programs, np.ndarray, np.ndarray]:
    """For each parent a mutant that can learn and is new, and for which parents there is one.

    Mutants that do what their parent does take its place, in place, and are mutated further.

    Args:
      parents: `n` programs.
      mutate: changes programs in place, and returns int64, by which types each.
      known: as in `new_learners`; the mutants are added.
      interface: as in `new_learners`.
      unevaluated: bool `[n]`, parents that count as mutants themselves; None for none.

    Returns:
      The mutants, one for each of the parents in the second array, int64; and by which types it was mutated last.
    """
    everyone = np.arange(len(parents))
    children, todo = parents[everyone], everyone
    if unevaluated is not None and unevaluated.any():
        rows = np.flatnonzero(unevaluated)
        new, hashes = new_learners(parents[rows], known, interface)
        remember(hashes[new], known)
        todo = np.delete(everyone, rows[new])
    was = canonical(parents, interface=interface).hashes[:, 0]
    applied = np.zeros(len(parents), np.int64)
    for tries in TRIES:
        if not len(todo):
            break
        mutants = parents[np.repeat(todo, tries)]
        types = mutate(mutants)
        new, hashes = new_learners(mutants, known, interface)
        same = hashes == np.repeat(was[todo], tries)
        hit, first = first_of_each(new & ~same, tries)
        drifts, neutral = first_of_each(same, tries)
        drifts &= ~hit
        copy_rows(children, todo[hit], mutants, first[hit])
        applied[todo[hit]] = types[first[hit]]
        remember(hashes[first[hit]], known)
        copy_rows(parents, todo[drifts], mutants, neutral[drifts])
        todo = todo[~hit]
    done = np.delete(everyone, todo)
    return children[done], done, applied[done]


def with_sets(
    programs: Programs, space: SearchSpace, sets: int, rng: np.random.Generator, interface: Interface | None = None
) -> Programs:
    """Several of each program: itself, and copies with other initial values."""
    many = programs[np.repeat(np.arange(len(programs)), sets)]
    vary_initial_values(many, space, 1.0, REDRAWN, sets, rng)
    idle = np.flatnonzero(conditions(many, interface) < CONDITIONS)  # by a zero where there should be none
    if len(idle):
        some = programs[np.repeat(idle // sets, 2)]
        vary_initial_values(some, space, 1.0, 0.0, 2, rng)
        copy_rows(many, idle, some, np.arange(len(idle)) * 2 + 1)
    return many


def structures(programs: Programs, interface: Interface | None = None) -> np.ndarray:
    """`[n]` uint64 hashes of what Predict and Learn do, whatever the constants."""
    length = np.array(programs.length)
    length[:, 0] = 0
    bare = programs.with_arrays(programs.code, np.zeros_like(programs.data), length)
    return canonical(bare, interface=interface).hashes[:, 0]


def first_of_each(flags: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Whether one of each `n` flags is set, and where the first is."""
    each = flags.reshape(-1, n)
    return np.asarray(each.any(1)), np.arange(len(each)) * n + each.argmax(1)


@entry_point
def settle(fitness, structures, ring, niches, new_structures, own_fitness, new_fitness, owners):  # type: ignore[no-untyped-def]
    """Gives children places, one after the other, and each place the number of the child that has it in the end.

    A child replaces the program of its structure in its niche if it is better, and is dropped if not. The first of a
    structure takes the place of a program whose fitness it has with its own initial values: most likely it does the
    same, and variations that do not matter cannot fill the niche. Otherwise it takes the next place of the ring.
    Places below 0 are empty.
    """
    population = fitness.shape[1]
    for i in range(len(niches)):
        c = niches[i]
        place, equal = -1, -1
        for j in range(population):
            if fitness[c, j] >= 0 and structures[c, j] == new_structures[i]:
                place = j
                break
            if equal < 0 and own_fitness[i] > 0 and fitness[c, j] == own_fitness[i]:
                equal = j
        new = place < 0
        if new:
            place = equal
        if place < 0:
            place = ring[c]
            ring[c] = (place + 1) % population
        if new or new_fitness[i] > fitness[c, place]:
            fitness[c, place] = new_fitness[i]
            structures[c, place] = new_structures[i]
            owners[c * population + place] = i
