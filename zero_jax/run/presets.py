"""The experiments that come with the package, by name (SPEC 4)."""

import dataclasses

from zero_jax.program.memory import MemorySize
from zero_jax.program.space import SearchSpace
from zero_jax.run.config import Experiment
from zero_jax.search import Mutations
from zero_jax.tasks.sets import TaskSet

_DEMO_OPS = (2, 3, 18, 23, 27, 56)

_LINEAR = Experiment(
    name="linear",
    search_tasks=TaskSet("linear", tasks=10, features=4, train=100, valid=100),
    select_tasks=TaskSet("linear", tasks=100, features=4, train=1000, valid=100),
    unseen_tasks=TaskSet("linear", tasks=100, features=4, train=1000, valid=100),
    space=SearchSpace(MemorySize(4, 3, 1), _DEMO_OPS, _DEMO_OPS, _DEMO_OPS, (10, 2, 8), (10, 2, 8), (10, 2, 8)),
    islands=2,
    population=1000,
    cohort=1000,
    tournament=10,
    train_steps=30_000_000,
    side_by_side=2,
    probe=10,
)

_AFFINE = Experiment(
    name="affine",
    search_tasks=TaskSet("affine", tasks=3, features=8, train=1000, valid=100),
    select_tasks=TaskSet("affine", tasks=100, features=8, train=1000, valid=100),
    unseen_tasks=TaskSet("affine", tasks=100, features=8, train=1000, valid=100),
    space=SearchSpace(MemorySize(5, 3, 1), (56, 57), (1, 27), (1, 2, 3, 18, 23), (6, 2, 6), (6, 2, 6), (6, 2, 6)),
    islands=1,
    population=1000,
    cohort=500,
    tournament=10,
    train_steps=2_000_000_000,
)

_TEACHER = Experiment(
    name="teacher",
    search_tasks=TaskSet("teacher", tasks=10, features=8, train=1000, valid=100),
    select_tasks=TaskSet("teacher", tasks=50, features=8, train=1000, valid=100),
    unseen_tasks=TaskSet("teacher", tasks=50, features=8, train=1000, valid=100),
    space=SearchSpace(
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
    tournament=10,
    train_steps=1_000_000_000,
    experiments=1,
    candidates=10,
    baselines=("linear", "network"),
)

_DIGITS = Experiment(
    name="digits",
    search_tasks=TaskSet("digits", tasks=10, features=16, train=240, valid=50),
    select_tasks=TaskSet("digits", tasks=45, features=16, train=240, valid=50),
    unseen_tasks=TaskSet("digits", tasks=45, features=16, train=240, valid=50),
    space=SearchSpace(
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
    tournament=10,
    mutations=Mutations(("alter_param", "randomize_component", "insert_instruction", "remove_instruction")),
    initial="no_op",
    train_steps=200_000_000,
    experiments=1,
    sufficient_fitness=0.9999,
    candidates=10,
    baselines=("linear", "network"),
)

_IMAGES = TaskSet("synthetic_images", tasks=10, features=16, train=8000, valid=1000)

_PAPER = dataclasses.replace(
    _DIGITS,
    name="paper",
    search_tasks=_IMAGES,
    select_tasks=dataclasses.replace(_IMAGES, tasks=9),
    unseen_tasks=dataclasses.replace(_IMAGES, tasks=9),
    islands=1000,
    groups=2,
    train_steps=1_000_000_000_000,
)

PRESETS: dict[str, tuple[str, Experiment]] = {
    "linear": ("upstream's demo: discover linear regression by gradient descent", _LINEAR),
    "affine": ("the paper's affine regression (Fig. 4)", _AFFINE),
    "teacher": ("imitate a 2-layer network (Fig. 5)", _TEACHER),
    "digits": ("tell handwritten digits apart, from empty programs (supplement S10, in small)", _DIGITS),
    "paper": ("sizes of the paper: 1,000 islands, 10 tasks of 8,000 examples of CIFAR-10's shape; wants a GPU", _PAPER),
}
"""What each preset is, and the experiment."""
