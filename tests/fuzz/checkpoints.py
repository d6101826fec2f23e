"""What is tried with checkpoints, importable by the process that it may end."""

import io
import warnings
import zipfile

import numpy as np

from tests.damage import at, other_numbers, paths, put, structural
from tests.fuzz import runs
from tests.fuzz.fuzzing import must, mutated_bytes, refusals
from zero_jax.run.api import resume
from zero_jax.support.files import packed, unpacked


def checkpoints(folder):
    return sorted(folder.glob("checkpoint-*.npz"))


def attempt(prepared, root, rng):
    """Damages the checkpoints of one of the runs and goes on with it."""
    run, other = rng.choice(prepared), rng.choice(prepared)
    folder = runs.copied(run, root)
    repacked = damage(rng, folder, other.folder)
    with warnings.catch_warnings(record=True) as noted:
        warnings.simplefilter("always")
        with refusals():
            resume(folder)
    for note in noted:
        must(issubclass(note.category, UserWarning), f"{note.category}: {note.message}")
    outcome = runs.outcome_in(folder)
    fine = outcome == run.outcome or (repacked and not noted)  # with a note, an older one was used
    must(fine, f"a silent change: {outcome} is not {run.outcome}")


def damage(rng, folder, other):
    """Returns whether a checkpoint holds something else now, with a digest that is right."""
    own = checkpoints(folder)
    path, way = own[-1], rng.randrange(6)
    if way <= 1:
        for _ in range(rng.choice([1, 1, 2])):
            tree = unpacked(path.read_bytes())
            changed = changed_tree(rng, tree)
            path.write_bytes(packed(changed))
        return True
    others = [one.read_bytes() for one in (*own, *checkpoints(other))]
    for path in own[-rng.choice([1, 2]) :]:
        data = path.read_bytes()
        if way == 2:
            path.write_bytes(mutated_bytes(rng, data, others))
        elif way == 3:
            path.write_bytes(rng.choice(others))
        elif way == 4:
            path.write_bytes(spliced(rng, data, rng.choice(others)))
        else:
            path.unlink()
            if rng.randrange(2):
                path.with_name(f"checkpoint-{rng.choice(['000009', '1', '9' * 30, '', 'x'])}.npz").write_bytes(data)
    return False


def changed_tree(rng, tree):
    """A tree with one other leaf or branch; those that hold other branches are changed less often."""
    while True:
        place = rng.choice(list(paths(tree)))
        others = [*structural(at(tree, place)), *other_numbers(at(tree, place))]
        if others and (not isinstance(at(tree, place), dict | list) or not rng.randrange(4)):
            other = rng.choice(others)
            if not isinstance(other, np.ndarray) or not other.dtype.hasobject:
                return put(tree, place, other)


def spliced(rng, data, other):
    """An archive with members of another, and the comment of either."""
    file = io.BytesIO()
    one, two = (zipfile.ZipFile(io.BytesIO(whole)) for whole in (data, other))
    with one, two, zipfile.ZipFile(file, "w") as archive:
        for name in one.namelist():
            source = two if name in two.namelist() and not rng.randrange(3) else one
            archive.writestr(name, source.read(name))
        archive.comment = rng.choice([one, two]).comment
    return file.getvalue()
