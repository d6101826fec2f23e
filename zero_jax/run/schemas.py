"""The JSON files of a run's folder, field by field: what each may hold. config.json is described by `RunConfig`."""

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from zero_jax.program.memory import Interface

Count = Annotated[int, Meta(ge=0, le=2**53)]
"""Up to where JSON's numbers are whole."""

Fitness = Annotated[float, Meta(ge=0, le=1)]
Positive = Annotated[float, Meta(ge=0, le=1e15)]
Quantiles = tuple[Fitness, Fitness, Fitness, Fitness, Fitness]

_Size = Annotated[int, Meta(ge=0, le=2**20)]


class Record(Struct, forbid_unknown_fields=True):
    """A line of records.jsonl: the fields of `zero_jax.run.folder.Progress`."""

    trial: Count
    evaluations: Count
    trained: Count
    train_steps: Count
    seconds: Positive
    best_fitness: Annotated[float, Meta(le=1)]
    repeated: Count = 0
    known: Count = 0
    equivalent: Count = 0
    over_budget: Count = 0
    stopped: Count = 0
    empty: Count = 0
    saved_steps: Count = 0
    quantiles: tuple[Fitness, ...] = ()
    islands: tuple[Quantiles, ...] = ()
    diversity: Fitness = 0.0
    lost: Count = 0
    exhausted: Count = 0

    def __post_init__(self) -> None:
        if len(self.quantiles) not in (0, 5):
            raise ValueError(f"quantiles are five numbers, or none, not {len(self.quantiles)}")
        if -float("inf") < self.best_fitness < 0:  # before a program has a fitness it is -inf
            raise ValueError(f"best_fitness must be from 0 to 1, not {self.best_fitness:g}")


class Baseline(Struct):
    """A hand-written program in outcome.json."""

    name: str
    learning_rate: Positive
    search_fitness: Fitness
    select_fitness: Fitness
    unseen_fitness: Fitness


class Outcome(Struct):
    """outcome.json."""

    trial: Count
    search_fitness: Fitness
    select_fitness: Fitness | None
    unseen_fitness: Fitness | None
    solved: bool
    interrupted: bool
    progress: Record
    baselines: list[Baseline]
    references: dict[str, Fitness] = {}


class Program(Struct):
    """best.json, and the program of a row or a step: as `Programs.to_json` writes one program."""

    schema: Literal[1]
    memory: tuple[_Size, _Size, _Size]
    programs: Annotated[list[Any], Meta(min_length=1, max_length=1)]
    capacity: tuple[_Size, _Size, _Size] | None = None


class Holder(Struct):
    """What lists have that hold programs."""

    program: Program


class Row(Holder, kw_only=True):
    """A row of hall.json."""

    search_fitness: Fitness
    select_fitness: Fitness | None
    cost: Positive
    instructions: Count
    trial: Count
    evaluations: Count
    best: bool
    pareto: bool


class Hall(Struct):
    """hall.json."""

    rows: list[Row]
    interface: Interface | None


class Step(Holder, kw_only=True):
    """A step of lineage.json."""

    evaluations: Count
    fitness: Fitness
    births: Count


class Lineage(Struct):
    """lineage.json."""

    steps: list[Step]
    trial: Count
    interface: Interface | None


class Config(Struct):
    """config.json; `RunConfig` describes what `config` holds."""

    config: dict[str, Any]
    versions: dict[str, str] = {}
    run: str = ""
    digest: str = ""
    data: dict[str, str] = {}
