"""The runs that come with the package, by name."""

import dataclasses

from zero_jax.program.memory import MemorySize
from zero_jax.program.space import Component, SearchSpace
from zero_jax.run.config import EvaluationConfig, OutputConfig, RunConfig, ScheduleConfig, TaskConfig
from zero_jax.search import Mutations, NicheSearch, RegularizedEvolution
from zero_jax.tasks.sets import TaskSet

_SCALING = ("SCALAR_DIFF", "SCALAR_PRODUCT", "SCALAR_VECTOR_PRODUCT", "VECTOR_SUM")
_DEMO_OPS = (*_SCALING, "VECTOR_INNER_PRODUCT", "SCALAR_CONST_SET")
_FORWARD = ("VECTOR_INNER_PRODUCT", "MATRIX_VECTOR_PRODUCT", "VECTOR_MAX")
_BACKWARD = (
    *("SCALAR_DIFF", "SCALAR_PRODUCT", "VECTOR_HEAVYSIDE", "SCALAR_VECTOR_PRODUCT", "VECTOR_SUM", "VECTOR_PRODUCT"),
    *("VECTOR_OUTER_PRODUCT", "MATRIX_SUM"),
)
_UNIFORM = ("SCALAR_UNIFORM_SET", "VECTOR_UNIFORM_SET", "MATRIX_UNIFORM_SET")
_GAUSSIAN = ("SCALAR_GAUSSIAN_SET", "VECTOR_GAUSSIAN_SET", "MATRIX_GAUSSIAN_SET")

_INITIAL_VALUES = ("SCALAR_CONST_SET", "VECTOR_GAUSSIAN_SET", "MATRIX_GAUSSIAN_SET")

_BASELINES = OutputConfig(baselines=("linear", "network"))

_DEMO = RunConfig(
    name="demo",
    tasks=TaskConfig(
        search=TaskSet("linear", tasks=10, features=4, train=100, valid=100),
        select=TaskSet("linear", tasks=100, features=4, train=1000, valid=100),
        unseen=TaskSet("linear", tasks=100, features=4, train=1000, valid=100),
    ),
    searcher=RegularizedEvolution(
        SearchSpace(
            memory=MemorySize(4, 3, 1),
            setup=Component(_DEMO_OPS, size=(10, 10, 10)),
            predict=Component(_DEMO_OPS, size=(2, 2, 2)),
            learn=Component(_DEMO_OPS, size=(8, 8, 8)),
        ),
        islands=2,
        population=1000,
        cohort=1000,
    ),
    evaluation=EvaluationConfig(probe=10),
    schedule=ScheduleConfig(train_steps=30_000_000, parallel_trials=2),
)

_LINEAR = _DEMO.replace(
    name="linear", method="niches", niches=10, niche_size=50, children=200, setup_share=0.1, patience=50_000
)

_AFFINE = RunConfig(
    name="affine",
    tasks=TaskConfig(
        search=TaskSet("affine", tasks=3, features=8, train=1000, valid=100),
        select=TaskSet("affine", tasks=100, features=8, train=1000, valid=100),
        unseen=TaskSet("affine", tasks=100, features=8, train=1000, valid=100),
    ),
    searcher=NicheSearch(
        SearchSpace(
            memory=MemorySize(5, 3, 1),
            setup=Component(("SCALAR_CONST_SET", "VECTOR_GAUSSIAN_SET")),
            predict=Component(("SCALAR_SUM", "VECTOR_INNER_PRODUCT"), size=(2, 2, 2)),
            learn=Component(("SCALAR_SUM", *_SCALING), size=(6, 6, 6)),
            initial_values=True,
        ),
        children=100,
        setup_share=0.1,
        patience=150_000,
    ),
    schedule=ScheduleConfig(train_steps=2_000_000_000, parallel_trials=2),
)

_NETWORKS = SearchSpace(
    memory=MemorySize(3, 6, 2),
    setup=Component(_INITIAL_VALUES),
    predict=Component(_FORWARD, size=(1, 3, 3)),
    learn=Component(_BACKWARD, size=(1, 7, 9)),
    initial_values=True,
)

_TEACHER = RunConfig(
    name="teacher",
    tasks=TaskConfig(
        search=TaskSet("teacher", tasks=32, features=4, train=1000, valid=1000),
        select=TaskSet("teacher", tasks=200, features=4, train=1000, valid=1000),
        unseen=TaskSet("teacher", tasks=50, features=4, train=1000, valid=1000),
    ),
    searcher=NicheSearch(
        _NETWORKS,
        fidelity=((0.5, 0.1), (0.5, 0.4)),
    ),
    schedule=ScheduleConfig(train_steps=6_000_000_000, parallel_trials=2, sufficient_margin=0.15, candidates=10),
    output=_BASELINES,
)

_EMPTY = RunConfig(
    name="empty",
    tasks=TaskConfig(
        search=TaskSet("digits", tasks=10, features=16, train=240, valid=50),
        select=TaskSet("digits", tasks=45, features=16, train=240, valid=50),
        unseen=TaskSet("digits", tasks=45, features=16, train=240, valid=50),
    ),
    searcher=RegularizedEvolution(
        SearchSpace(
            memory=MemorySize(5, 9, 2),
            setup=Component(("SCALAR_CONST_SET", *_UNIFORM, *_GAUSSIAN), size=(1, 1, 7)),
            predict=Component(("SCALAR_SUM", "VECTOR_SUM", *_FORWARD), size=(1, 1, 11)),
            learn=Component(("SCALAR_SUM", *_BACKWARD), size=(1, 1, 23)),
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

_DIGITS = RunConfig(
    name="digits",
    tasks=TaskConfig(
        search=TaskSet("digits", tasks=48, features=16, train=240, valid=50),
        select=TaskSet("digits", tasks=180, features=16, train=240, valid=50),
        unseen=_EMPTY.tasks.unseen,
    ),
    searcher=NicheSearch(
        _NETWORKS,
        niches=30,
        fidelity=((1 / 3, 0.5), (1.0, 1.0)),
        climb_after=100_000,
        tune_every=50_000,
        explore_every=0,  # the shortest 30 of 59 functions suffice
    ),
    schedule=ScheduleConfig(train_steps=700_000_000, trials=2, parallel_trials=2, candidates=10),
    output=_BASELINES,
)

_FASHION = _DIGITS.replace(
    name="fashion_mnist",
    tasks=TaskConfig(
        # Between pairs alone a network wins less over a linear program than its judges are unsure about.
        search=TaskSet("fashion_mnist", tasks=48, features=16, train=240, valid=100, classes_per_side=(1, 3)),
        select=TaskSet("fashion_mnist", tasks=90, features=16, train=240, valid=500),
        unseen=TaskSet("fashion_mnist", tasks=90, features=16, train=240, valid=500),
    ),
    train_steps=250_000_000,
    candidates=60,
)

_IMAGES = TaskSet("synthetic_images", tasks=10, features=16, train=8000, valid=1000)
_OTHER_IMAGES = dataclasses.replace(_IMAGES, tasks=9)

_PAPER = _EMPTY.replace(
    name="paper",
    tasks=TaskConfig(_IMAGES, _OTHER_IMAGES, _OTHER_IMAGES),
    islands=1000,
    groups=2,
    train_steps=1_000_000_000_000,
)

PRESETS: dict[str, tuple[str, RunConfig]] = {
    "linear": ("discover linear regression by gradient descent, from random programs", _LINEAR),
    "affine": ("the paper's affine regression (Fig. 4)", _AFFINE),
    "teacher": ("find a network that learns, from random programs (Fig. 5)", _TEACHER),
    "digits": ("classify pairs of handwritten digits, from random programs", _DIGITS),
    "fashion_mnist": ("classify pairs of kinds of clothing, images of Fashion-MNIST, from random programs", _FASHION),
    "demo": ("the demo of the original AutoML-Zero code, linear regression by regularized evolution, as there", _DEMO),
    "empty": ("pairs of handwritten digits by evolution of empty programs (supplement S10, scaled down)", _EMPTY),
    "paper": (
        "the paper's sizes: 1,000 islands, 10 tasks of 8,000 examples of CIFAR-10's shape; needs a GPU to be practical",
        _PAPER,
    ),
}
"""Name -> (description, config): `_, config = PRESETS["linear"]`."""
