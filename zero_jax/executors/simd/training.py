"""Training and validation on sixteen tasks: the compiled loops of the SIMD executor, for either layout of memory."""

from typing import NamedTuple

import numpy as np

from zero_jax.executors.simd import carry
from zero_jax.executors.simd import feature_lanes as f
from zero_jax.executors.simd import machine as m
from zero_jax.executors.simd import vector as v
from zero_jax.executors.simd.translate import translate
from zero_jax.support.compiled import compiled, compiled_into_caller, entry_point

(FEATURES, TRAIN, VALID, EPOCHS, ACCURACY, CLASSES, SEED, FUSE, ERRORS, FINGERPRINTS, PRINT_PLACE, BLOCK,
 CARRIES, TASKS) = range(14)  # fmt: skip
"""What `settings` holds: F, N, K, E; whether the loss is accuracy; C where labels are vectors, else 0; the seed;
whether to make superinstructions, to keep errors, to make fingerprints, and where in a program's memory; how many items
a thread takes at a time; whether runs begin with given memory, and what they leave in it is kept; how many tasks a
group has, the last perhaps fewer."""

TRAIN_X, TRAIN_Y, VALID_X, VALID_Y, IDS, COUNTER, STOP, GIVEN, LEFT = range(9)
"""What `addresses` holds: the tasks as laid out, their ids, the common counter, the flag that ends the work, and the
memory that runs begin with and that they leave, as laid out."""

_LANE_BYTES = 4 * v.WIDTH


class _Job(NamedTuple):
    """One program on one group of tasks; all are numbers.

    Attributes:
      setup, memory: addresses of the program's rows, and of its memory.
      predict, validate: the addresses of the rows that Predict begins at, in training and in validation.
      update: that of a matrix's update that waits for the next example, see `carry.py`; 0 if none does.
      features_place, label, prediction, scratch: places in memory, of what each name says; scratch is free.
      classes: C where labels are vectors, else 0; rewrites: whether Predict writes features or label.
      seed, ids, lane: of the random stream; the first lane of the group.
      train_x, train_y, valid_x, valid_y: addresses of the group's examples.
      program: its number; tasks: how many tasks the group has.
    """

    setup: int
    memory: int
    predict: int
    validate: int
    update: int
    features_place: int
    label: int
    prediction: int
    scratch: int
    classes: int
    rewrites: int
    seed: int
    ids: int
    lane: int
    train_x: int
    train_y: int
    valid_x: int
    valid_y: int
    program: int
    tasks: int


@entry_point
def train_programs(  # type: ignore[no-untyped-def]
    size, registers, settings, addresses, chosen, code, data, length, starts, table, ends, wheres, order, masks,
    max_error, scratch, places, fitness, steps, errors, prints,
):  # fmt: skip
    """Trains one chosen program on one group of tasks after another, until no work is left or the flag is raised.

    `registers` is a `vector.Size` of R where features are lanes, and None where tasks are; `wheres` has
    `translate.places` for a group that is full and for the last one.
    """
    features, n, k = settings[FEATURES], settings[TRAIN], settings[VALID]
    example_bytes = _LANE_BYTES * (
        features if registers is None else settings[TASKS] * v.registers(registers, features)
    )
    groups = len(masks)
    work, rows, constants, shape = scratch
    last, block = len(chosen) * groups, settings[BLOCK]
    before = v.flush_subnormals()
    while True:
        begin = v.take(addresses[COUNTER]) * block
        if begin >= last:
            v.restore(before)
            return
        for item in range(begin, min(begin + block, last)):
            if v.raised(addresses[STOP]):
                v.restore(before)
                return
            program, g = item // groups, item % groups
            p, where = chosen[program], wheres[1 if g == groups - 1 else 0]
            translate(
                code[p],
                data[p],
                length[p],
                starts,
                table,
                ends,
                where,
                settings[FUSE] != 0,
                work,
                rows,
                constants,
                shape,
            )
            job = _Job(
                places[0], places[1], places[0] + (shape[0] + 1) * m.ROW_BYTES,
                places[0] + (shape[0] + shape[1] + shape[2] + 3) * m.ROW_BYTES,
                places[0] + shape[5] * m.ROW_BYTES if shape[5] else 0,
                where[ends[1], 0], where[ends[0], 0], where[ends[2], 0], where[len(where) - 4, 0], settings[CLASSES],
                shape[4],
                settings[SEED], addresses[IDS], g * v.WIDTH,
                addresses[TRAIN_X] + example_bytes * g * n, addresses[TRAIN_Y] + _LANE_BYTES * g * n,
                addresses[VALID_X] + example_bytes * g * k, addresses[VALID_Y] + _LANE_BYTES * g * k, program,
                _tasks(masks[g]),
            )  # fmt: skip
            given, left, zero = addresses[GIVEN], addresses[LEFT], v.splat(np.float32(0))
            for place in range(0, shape[3], v.WIDTH):
                first = v.load(given, g * settings[PRINT_PLACE] + place) if settings[CARRIES] else zero
                v.store(job.memory, place, first)
            if settings[FINGERPRINTS]:
                v.store(job.memory, settings[PRINT_PLACE], v.splat(np.float32(0)))
            _train(size, registers, settings, job, order, masks[g], max_error, addresses[STOP], fitness, steps, errors)
            if settings[CARRIES]:
                for place in range(0, shape[3], v.WIDTH):
                    v.store(left, item * settings[PRINT_PLACE] + place, v.load(job.memory, place))
            if settings[FINGERPRINTS]:
                _sign(job.memory, settings[PRINT_PLACE], prints[program, g])


_PREDICT, _LEARN = 1, 2
"""The components' numbers, in the count of draws."""


@compiled
def _tasks(mask):  # type: ignore[no-untyped-def]
    """How many tasks a group has, from a mask with a bit for each."""
    count = 0
    while (mask >> count) & 1:
        count += 1
    return count


@compiled
def _train(size, registers, settings, job, order, alive, max_error, stop, fitness, steps, errors):  # type: ignore[no-untyped-def]
    """All epochs: writes the lanes of `fitness` and `steps` that are the job's own.

    The rows are one loop, the interpreter compiled into it: what happens between components is rows too (`NEXT`
    presents a training example, `CHECK` ends Predict, `JUDGE` ends it in validation), since a call for each run of a
    component would take longer than a short component does. `alive` has a bit for each lane that has not stopped.
    """
    features, n, k, epochs = settings[FEATURES], settings[TRAIN], settings[VALID], settings[EPOCHS]
    accuracy, signed, kept = settings[ACCURACY] != 0, settings[FINGERPRINTS] != 0, settings[ERRORS] != 0
    memory, scratch, seed, ids, lane, tasks = job.memory, job.scratch, job.seed, job.ids, job.lane, job.tasks
    limit, zero, one = v.splat(max_error), v.splat(np.float32(0)), v.splat(np.float32(1))
    nothing = v.splat(np.float32(-1 if job.classes else 0))  # for a label: no class, or 0
    lost, epoch, i, example, row, draw = zero, 0, -1, 0, job.setup, 0
    while True:
        op = v.integer(row, m.OP)
        if op == m.NEXT:
            if v.raised(stop):
                return
            updated = job.update != 0 and row == job.update + m.ROW_BYTES
            if not updated:
                i += 1
            if i < n:
                example, row = order[epoch, i], job.predict
                if job.update and i > 0:
                    _carry(size, registers, settings, job, example)
                    row += m.ROW_BYTES
                _present(size, registers, settings, job, job.train_x, example, nothing)
                draw = ((epoch * (n + k) + i) << 10) | _PREDICT
            elif job.update and not updated:
                row = job.update  # and then comes another NEXT
            else:
                _present(size, registers, settings, job, job.valid_x, 0, nothing)
                i, lost, row, draw = 0, zero, job.validate, ((epoch * (n + k) + n) << 10) | _PREDICT
        elif op == m.CHECK:
            label, prediction = v.load(job.train_y, example * v.WIDTH), v.load(memory, job.prediction)
            if job.classes:
                error = _softmax(size, registers, features, job, label, True)
            else:
                if accuracy:
                    prediction = v.div(one, v.add(one, v.exponential(v.negative(prediction))))
                    v.store(memory, job.prediction, prediction)
                error = v.sub(label, prediction)
            if job.rewrites:
                _present(size, registers, settings, job, job.train_x, example, label)
            elif job.classes:
                _write_class(size, registers, features, job, label)
            else:
                v.store(memory, 0, label)
            if signed:
                _mix(memory, settings[PRINT_PLACE], error, alive)
            if kept:
                _keep(job, epoch * (n + k) + i, alive, error, errors)
            going = alive & v.within(error, limit)
            if going != alive:
                _stop(alive & ~going, steps, job, epoch * n + i + 1)
                alive = going
                if alive == 0:
                    return
            row, draw = row + m.ROW_BYTES, ((epoch * n + i) << 10) | _LEARN
        elif op == m.JUDGE:
            label, prediction = v.load(job.valid_y, i * v.WIDTH), v.load(memory, job.prediction)
            error = v.sub(label, prediction)
            if job.classes and (signed or kept):
                error = _softmax(size, registers, features, job, label, False)
            if signed:
                _mix(memory, settings[PRINT_PLACE], error, alive)
            if kept:
                _keep(job, epoch * (n + k) + n + i, alive, error, errors)
            if job.classes:
                lost = v.add(lost, _other_class(size, registers, features, job, label))
            elif accuracy:
                lost = v.add(lost, v.wrong_class(prediction, label))
            else:
                going = alive & v.within(error, limit)
                if going != alive:
                    _stop(alive & ~going, steps, job, (epoch + 1) * n)
                    alive = going
                    if alive == 0:
                        return
                lost = v.fma(error, error, lost)
            i += 1
            if i < k:
                if v.raised(stop):
                    return
                _present(size, registers, settings, job, job.valid_x, i, nothing)
                row, draw = job.validate, ((epoch * (n + k) + n + i) << 10) | _PREDICT
            else:
                if not signed:
                    _score(job, lost, k, accuracy, alive, fitness)
                epoch += 1
                if epoch == epochs:
                    _stop(alive, steps, job, epochs * n)
                    return
                i, row = -1, job.predict - m.ROW_BYTES
        else:
            if registers is None:
                m.step(size, features, op, row, memory, scratch, seed, ids, lane, draw)
            else:
                f.step(registers, size, features, tasks, op, row, memory, scratch, seed, ids, lane, draw)
            row += m.ROW_BYTES


@compiled
def _score(job, lost, k, accuracy, alive, fitness):  # type: ignore[no-untyped-def]
    """The fitness of an epoch, in float32; the best so far stays."""
    v.store(job.memory, job.scratch, lost)
    for lane in range(v.WIDTH):
        if (alive >> lane) & 1:
            mean = v.real(job.memory, job.scratch + lane) / np.float32(k)
            score = np.float32(1) - mean
            if not accuracy:
                score = np.float32(1) - np.float32(2 / np.pi) * np.float32(np.arctan(np.sqrt(mean)))
            at = job.lane + lane
            fitness[job.program, at] = max(fitness[job.program, at], score)


@compiled
def _present(size, registers, settings, job, x, example, label):  # type: ignore[no-untyped-def]
    """Features to v0, the label, -1 for no class, to s0 or v1."""
    count = v.number(size, settings[FEATURES])
    each = count if registers is None else settings[TASKS] * v.registers(registers, settings[FEATURES])
    if registers is not None:
        count = job.tasks * v.registers(registers, settings[FEATURES])
    for i in range(count):
        v.store(job.memory, job.features_place + i * v.WIDTH, v.load(x, (example * each + i) * v.WIDTH))
    if job.classes:
        _write_class(size, registers, settings[FEATURES], job, label)
    else:
        v.store(job.memory, 0, label)


@compiled
def _carry(size, registers, settings, job, example):  # type: ignore[no-untyped-def]
    """Learn's last update and Predict's first product, on an example that is still to be presented."""
    features, to_data = settings[FEATURES], (job.train_x - job.memory) // 4
    if registers is None:
        x = to_data + example * v.number(size, features) * v.WIDTH
        carry.with_task_lanes(size, features, job.update, job.predict, job.memory, x)
    else:
        x = to_data + example * settings[TASKS] * v.registers(registers, features) * v.WIDTH
        carry.with_feature_lanes(registers, size, features, job.tasks, job.update, job.predict, job.memory, x)


@compiled
def _is_class(number, label):  # type: ignore[no-untyped-def]
    """1 in lanes whose label is this class, 0 elsewhere."""
    return v.positive(v.sub(v.splat(np.float32(0.5)), v.absolute(v.sub(label, v.splat(np.float32(number))))))


@compiled
def _write_class(size, registers, features, job, label):  # type: ignore[no-untyped-def]
    """The label as a vector: 1 at its class, 0 elsewhere."""
    numbers, to = v.number(size, features), job.label
    if registers is not None:
        to = job.scratch
    for i in range(numbers):
        v.store(job.memory, to + i * v.WIDTH, _is_class(i, label))
    if registers is not None:
        f.to_features(job.memory, 1, to, job.label, numbers, v.registers(registers, features))


@compiled
def _predicted(size, registers, features, job):  # type: ignore[no-untyped-def]
    """Where the predicted vector is with tasks as lanes."""
    if registers is None:
        return job.prediction
    return f.to_tasks(
        job.memory, 1, job.prediction, job.scratch, v.number(size, features), v.registers(registers, features)
    )


@compiled
def _softmax(size, registers, features, job, label, keep):  # type: ignore[no-untyped-def]
    """The largest |label - probability| of a class, NaN if any is; `keep` has probabilities replace the prediction."""
    shown = _predicted(size, registers, features, job)
    to = shown if keep else job.scratch
    top, total, worst = v.load(job.memory, shown), v.splat(np.float32(0)), v.splat(np.float32(0))
    for c in range(1, job.classes):
        top = v.maximum(top, v.load(job.memory, shown + c * v.WIDTH))
    for c in range(job.classes):
        each = v.exponential(v.sub(v.load(job.memory, shown + c * v.WIDTH), top))
        v.store(job.memory, to + c * v.WIDTH, each)
        total = v.add(total, each)
    for c in range(job.classes):
        probability = v.div(v.load(job.memory, to + c * v.WIDTH), total)
        v.store(job.memory, to + c * v.WIDTH, probability)
        worst = v.maximum(v.absolute(v.sub(_is_class(c, label), probability)), worst)
    if registers is not None and keep:
        f.to_features(job.memory, 1, to, job.prediction, v.number(size, features), v.registers(registers, features))
    return worst


@compiled
def _other_class(size, registers, features, job, label):  # type: ignore[no-untyped-def]
    """1 where the largest element, the last of equal ones, is not that of the label; NaN elements do not count."""
    top, predicted = v.splat(np.float32(-np.inf)), v.splat(np.float32(0))
    shown = _predicted(size, registers, features, job)
    for c in range(job.classes):
        value = v.load(job.memory, shown + c * v.WIDTH)
        better = v.at_least(value, top)
        predicted = v.fma(better, v.sub(v.splat(np.float32(c)), predicted), predicted)
        top = v.maximum(top, value)
    return v.positive(v.sub(v.absolute(v.sub(predicted, label)), v.splat(np.float32(0.5))))


@compiled
def _stop(lanes, steps, job, count):  # type: ignore[no-untyped-def]
    """Writes the train steps of runs that end."""
    for lane in range(v.WIDTH):
        if (lanes >> lane) & 1:
            steps[job.program, job.lane + lane] = count


@compiled_into_caller
def _mix(memory, place, error, alive):  # type: ignore[no-untyped-def]
    """Mixes an example's errors into the fingerprint, in the lanes that have not stopped."""
    exact = v.add(error, v.splat(np.float32(0)))  # -0 becomes 0
    v.store(memory, place, v.mixed(v.load(memory, place), exact, alive))


@compiled
def _keep(job, example, alive, error, errors):  # type: ignore[no-untyped-def]
    """Keeps an example's errors, in the lanes that have not stopped."""
    v.store(job.memory, job.scratch, error)
    for lane in range(v.WIDTH):
        if (alive >> lane) & 1:
            errors[job.program, example, job.lane + lane] = v.real(job.memory, job.scratch + lane)


@compiled
def _sign(memory, place, out):  # type: ignore[no-untyped-def]
    """Joins the hashes of sixteen lanes."""
    h, g = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xC2B2AE3D27D4EB4F)
    for lane in range(v.WIDTH):
        bits = np.uint64(v.word(memory, place + lane))
        h = (h ^ bits) * np.uint64(0xBF58476D1CE4E5B9)
        g = (g ^ bits) * np.uint64(0x94D049BB133111EB)
        h, g = h ^ (h >> np.uint64(31)), g ^ (g >> np.uint64(29))
    out[0], out[1] = h, g
