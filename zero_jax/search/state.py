"""What a search carries from one call to the next, and its form on disk.

Axes: `I` islands, `P` programs per island.
"""

import dataclasses
import io
import json
from pathlib import Path
from typing import Any, cast

import numpy as np

from zero_jax import files
from zero_jax.programs import MemorySize, Programs

SCHEMA = 1
"""The version that a saved state carries."""

_ARRAYS = ("code", "data", "length")


@dataclasses.dataclass(frozen=True, eq=False)
class SearchState:
    """Everything a search continues from; never changed in place.

    Attributes:
      population: `I * P` programs, island by island; in each island a ring in order of age.
      fitness: `[I, P]` float64, NaN where not evaluated yet.
      oldest: where in the ring the oldest program of every island is: the next to be replaced.
      evaluations: how many programs have been told.
      best: a batch of the one best program so far, on any island.
      best_fitness: its fitness; -inf before the first is told.
      rng: the state of the NumPy generator.
    """

    population: Programs
    fitness: np.ndarray
    oldest: int
    evaluations: int
    best: Programs
    best_fitness: float
    rng: dict[str, Any]

    def generator(self) -> np.random.Generator:
        """A generator that goes on from `rng`."""
        bits = np.random.PCG64(0)
        bits.state = cast(Any, self.rng)
        return np.random.Generator(bits)

    def save(self, path: str | Path) -> None:
        """Writes the state as NPZ, atomically."""
        meta = {
            "schema": SCHEMA,
            "oldest": self.oldest,
            "evaluations": self.evaluations,
            "best_fitness": self.best_fitness,
            "rng": self.rng,
            "capacity": self.population.capacity,
            "memory": self.population.memory,
        }
        arrays = {f"population_{name}": np.asarray(getattr(self.population, name)) for name in _ARRAYS}
        arrays |= {f"best_{name}": np.asarray(getattr(self.best, name)) for name in _ARRAYS}
        buffer = io.BytesIO()
        np.savez(buffer, allow_pickle=False, fitness=self.fitness, meta=np.array(json.dumps(meta)), **arrays)
        files.write_atomically(Path(path), buffer.getvalue())

    @classmethod
    def load(cls, path: str | Path) -> "SearchState":
        """The inverse of `save`.

        Raises:
          ValueError: a file that is damaged, no saved state, or of another schema.
        """
        try:
            with open(path, "rb") as file, np.load(file, allow_pickle=False) as stored:
                arrays = dict(stored)
            meta = json.loads(str(arrays["meta"]))
            if meta["schema"] != SCHEMA:
                raise ValueError(f"schema {meta['schema']} is not {SCHEMA}, which this version reads")
            shape = tuple(meta["capacity"]), MemorySize(*meta["memory"])
            population, best = (
                Programs(arrays[f"{part}_code"], arrays[f"{part}_data"], arrays[f"{part}_length"], *shape)
                for part in ("population", "best")
            )
            return cls(
                population.check(),
                arrays["fitness"],
                meta["oldest"],
                meta["evaluations"],
                best.check(),
                meta["best_fitness"],
                meta["rng"],
            )
        except OSError:
            raise
        except Exception as error:
            raise ValueError(f"{path} is not a saved search: {error}") from error


def checked_fitness(programs: Programs, told: Any) -> np.ndarray:
    """`[n]` float64.

    Raises:
      ValueError: a fitness that is NaN, or not one for each program.
    """
    fitness = np.asarray(told, np.float64)
    if fitness.shape != (len(programs),) or np.isnan(fitness).any():
        raise ValueError(f"fitness must be {len(programs)} numbers, one for each program asked for")
    return fitness


def with_results(state: SearchState, programs: Programs, told: np.ndarray, /, **changes: Any) -> SearchState:
    """The state after `programs` were told to have the fitness `told` `[n]`: counts them and keeps the best."""
    winner = int(np.argmax(told))
    if told[winner] > state.best_fitness:
        changes |= {"best": programs[winner], "best_fitness": float(told[winner])}
    return dataclasses.replace(state, evaluations=state.evaluations + len(programs), **changes)
