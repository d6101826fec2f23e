"""The runs that come with the package, by name."""

import dataclasses

from zero_jax.program.memory import MemorySize
from zero_jax.program.space import SearchSpace
from zero_jax.run.config import EvaluationConfig, OutputConfig, RunConfig, ScheduleConfig, TaskConfig
from zero_jax.search import Mutations, RegularizedEvolution
from zero_jax.tasks.sets import TaskSet

_DEMO_OPS = (2, 3, 18, 23, 27, 56)

_BASELINES = OutputConfig(baselines=("linear", "network"))

_LINEAR = RunConfig(
    name="linear",
    tasks=TaskConfig(
        search=TaskSet("linear", tasks=10, features=4, train=100, valid=100),
        select=TaskSet("linear", tasks=100, features=4, train=1000, valid=100),
        unseen=TaskSet("linear", tasks=100, features=4, train=1000, valid=100),
    ),
    searcher=RegularizedEvolution(
        SearchSpace(MemorySize(4, 3, 1), _DEMO_OPS, _DEMO_OPS, _DEMO_OPS, (10, 2, 8), (10, 2, 8), (10, 2, 8)),
        islands=2,
        population=1000,
        cohort=1000,
    ),
    evaluation=EvaluationConfig(probe=10),
    schedule=ScheduleConfig(train_steps=30_000_000, parallel_trials=2),
)

_AFFINE = RunConfig(
    name="affine",
    tasks=TaskConfig(
        search=TaskSet("affine", tasks=3, features=8, train=1000, valid=100),
        select=TaskSet("affine", tasks=100, features=8, train=1000, valid=100),
        unseen=TaskSet("affine", tasks=100, features=8, train=1000, valid=100),
    ),
    searcher=RegularizedEvolution(
        SearchSpace(MemorySize(5, 3, 1), (56, 57), (1, 27), (1, 2, 3, 18, 23), (6, 2, 6), (6, 2, 6), (6, 2, 6)),
        population=1000,
        cohort=500,
    ),
    schedule=ScheduleConfig(train_steps=2_000_000_000),
)

_TEACHER = RunConfig(
    name="teacher",
    tasks=TaskConfig(
        search=TaskSet("teacher", tasks=10, features=8, train=1000, valid=100),
        select=TaskSet("teacher", tasks=50, features=8, train=1000, valid=100),
        unseen=TaskSet("teacher", tasks=50, features=8, train=1000, valid=100),
    ),
    searcher=RegularizedEvolution(
        SearchSpace(
            MemorySize(4, 8, 2),
            (56, 57, 58, 62, 63, 64),
            (27, 31, 48),
            (2, 3, 16, 18, 23, 25, 28, 39),
            (21, 3, 9),
            (21, 3, 9),
            (21, 3, 9),
        ),
        islands=4,
        population=100,
        cohort=50,
    ),
    schedule=ScheduleConfig(train_steps=1_000_000_000, trials=1, candidates=10),
    output=_BASELINES,
)

_DIGITS = RunConfig(
    name="digits",
    tasks=TaskConfig(
        search=TaskSet("digits", tasks=10, features=16, train=240, valid=50),
        select=TaskSet("digits", tasks=45, features=16, train=240, valid=50),
        unseen=TaskSet("digits", tasks=45, features=16, train=240, valid=50),
    ),
    searcher=RegularizedEvolution(
        SearchSpace(
            MemorySize(5, 9, 2),
            (56, 59, 60, 61, 62, 63, 64),
            (1, 23, 27, 31, 48),
            (1, 2, 3, 16, 18, 23, 25, 28, 39),
            (1, 1, 1),
            (1, 1, 1),
            (7, 11, 23),
        ),
        islands=4,
        population=100,
        cohort=50,
        mutations=Mutations(("alter_param", "randomize_component", "insert_instruction", "remove_instruction")),
        initial="no_op",
    ),
    schedule=ScheduleConfig(train_steps=200_000_000, trials=1, candidates=10),
    output=_BASELINES,
)

_IMAGES = TaskSet("synthetic_images", tasks=10, features=16, train=8000, valid=1000)
_OTHER_IMAGES = dataclasses.replace(_IMAGES, tasks=9)

_PAPER = _DIGITS.replace(
    name="paper",
    tasks=TaskConfig(_IMAGES, _OTHER_IMAGES, _OTHER_IMAGES),
    islands=1000,
    groups=2,
    train_steps=1_000_000_000_000,
)

PRESETS: dict[str, tuple[str, RunConfig]] = {
    "linear": ("upstream's demo: discover linear regression by gradient descent", _LINEAR),
    "affine": ("the paper's affine regression (Fig. 4)", _AFFINE),
    "teacher": ("imitate a 2-layer network (Fig. 5)", _TEACHER),
    "digits": ("classify handwritten digits, starting from empty programs (supplement S10, scaled down)", _DIGITS),
    "paper": ("the paper's sizes: 1,000 islands, 10 tasks of 8,000 examples of CIFAR-10's shape; wants a GPU", _PAPER),
}
"""What each preset is, and its config."""
