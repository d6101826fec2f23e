"""Every field of what a search stores, damaged in every way; run as a program, since some damage would end the process.

Prints, as JSON: how many damaged trees there were and how many were refused; of those that were not, which had another
structure, rather than another number; and messages of all other errors.
"""

import dataclasses
import faulthandler
import json
import sys
import warnings

import numpy as np

from tests.helpers import QUICK
from zero_jax import Mutations
from zero_jax.program.space import Component
from zero_jax.run import build
from zero_jax.run.presets import PRESETS
from zero_jax.support.files import packed, unpacked
from zero_jax.tasks.sets import TaskSet

TINY = QUICK.replace(islands=1, population=12, cohort=6, cache_size=64, parallel_trials=1, threads=1)

SEARCHES = {
    "evolution": {"probe": 5},
    "efficient": {"method": "efficient"},
    "random": {"method": "random"},
    "vector labels": {
        "search_tasks": TaskSet("digits", tasks=2, features=4, train=30, valid=10, classes=3),
        "space": dataclasses.replace(PRESETS["demo"][1].searcher.space, predict=Component((18, 23, 28), (2, 2, 2))),
        "mutations": Mutations(("alter_param", "insert_instruction", "remove_instruction")),
        "train_budget": 2.0,
    },
    "groups": {"islands": 4, "groups": 2, "migrate_every": 10, "hurdle_examples": 0.5, "hurdle_tasks": 0.5},
}


def searching(name):
    """A trial that has evaluated some cohorts and has none under way."""
    trial = build.trial(TINY.replace(**SEARCHES[name]), 1, 7)
    for _ in range(6 * trial.groups):
        trial.evaluate_cohort()
    trial.settle()
    return trial


def restored(name, tree):
    trial = build.trial(TINY.replace(**SEARCHES[name]), 1, 7)
    trial.restore(tree)
    return trial


def paths(tree, path=()):
    """Of all that is in a tree, itself included."""
    yield path
    children = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, child in children:
        yield from paths(child, (*path, key))


def at(tree, path):
    for key in path:
        tree = tree[key]
    return tree


def put(tree, path, value):
    """The tree with another value at a path; the rest is shared."""
    if not path:
        return value
    copy = tree.copy()
    copy[path[0]] = put(copy[path[0]], path[1:], value) if path[1:] else value
    return copy


def structural(value):
    """Other things in its place, none of which has its form."""
    for other in (None, "text", [], {}, [None], {"x": 1}, True, np.zeros(0), np.array("text"), 1 + 10**400):
        kind = type(other) is type(value)
        if not kind or (isinstance(other, list | dict) and value and other != value):
            yield other
    if isinstance(value, dict):
        yield value | {"more": 1}
        yield from ({k: v for k, v in value.items() if k != key} for key in value)
    if isinstance(value, list):
        yield [*value, value[0] if value else 0]
        if value:
            yield value[:-1]
    if isinstance(value, np.ndarray):
        with np.errstate(invalid="ignore"):  # NaN
            yield value.astype(np.int16 if value.dtype != np.int16 else np.int8)
        if value.dtype.itemsize > 1:
            yield value.astype(value.dtype.newbyteorder())
        yield value.astype(object)
        yield value[None]
        yield value.tolist()
        for axis in range(value.ndim):
            if value.shape[axis]:
                yield np.take(value, [], axis)
                yield np.concatenate([value, np.take(value, [0], axis)], axis)
    if type(value) is int:
        yield from (float(min(value, 2**60)), float("nan"), str(value))
    if type(value) is float:
        yield str(value)


def other_numbers(value):
    """Its form with other numbers: some may be what a search could have come to."""
    if isinstance(value, np.ndarray) and value.size:
        extremes = [-1, np.inf, -np.inf, np.nan] if value.dtype.kind == "f" else []
        if value.dtype.kind in "iu":
            bounds = np.iinfo(value.dtype)
            extremes = [bounds.min, 1, 65, bounds.max]
        for extreme in extremes:
            for some in (slice(None), slice(-1, None)):
                copy = value.copy()
                copy.reshape(-1)[some] = extreme
                yield copy
        yield np.asfortranarray(value)
        yield value[..., ::-1]
    if type(value) is int:
        yield from (-1, 0, 1, 2**31, 2**62, 2**63 - 1, 2**63, 2**64, 2**128, 10**400)
    if type(value) is float:
        yield from (-1.0, 0.0, 1e308, float("inf"), -float("inf"), float("nan"))


def main(name, part, parts):
    faulthandler.enable()
    warnings.simplefilter("error")
    whole = unpacked(packed(searching(name).tree()))
    restored(name, whole).evaluate_cohort()
    tried, refused, accepted, errors = 0, 0, [], []
    for path in list(paths(whole))[part::parts]:
        value = at(whole, path)
        for form, others in (("structure", structural(value)), ("numbers", other_numbers(value))):
            for other in others:
                tried += 1
                where = f"{'.'.join(map(str, path))}: {form} {type(other).__name__} {str(other)[:60]!r}"
                try:
                    trial = restored(name, put(whole, path, other))
                except ValueError as error:
                    refused += 1
                    if len(str(error)) > 250 or not str(error).startswith("search"):
                        errors.append(f"{where}: {error!r}")
                    continue
                except Exception as error:
                    errors.append(f"{where}: {error!r}")
                    continue
                if form == "structure":
                    accepted.append(where)
                print(where, file=sys.stderr, flush=True)  # the last one, if this ends the process
                try:
                    trial.evaluate_cohort()
                    trial.settle()
                    packed(trial.tree())
                except Exception as error:
                    errors.append(f"{where}, when it went on: {error!r}")
    print(json.dumps({"tried": tried, "refused": refused, "accepted": accepted, "errors": errors}))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
