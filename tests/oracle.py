"""An independent interpreter in plain NumPy, one program and one task at a time, written apart from the package.

It shares nothing with the package but the op numbers: no op table, no liveness, no random stream.
"""

import numpy as np

f32 = np.float32
RANDOM = range(59, 65)

# op: (kind of in1, kind of in2, kind of out)
SIGNATURES = {}
for ops, signature in {
    (1, 2, 3, 4, 44, 47): "sss",
    (5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15): "s-s",
    (16, 20, 22): "v-v",
    (17, 30, 37, 38): "m-m",
    (18,): "svv",
    (19,): "s-v",
    (21, 50, 54): "v-s",
    (23, 24, 25, 26, 45, 48): "vvv",
    (27,): "vvs",
    (28,): "vvm",
    (29,): "smm",
    (31,): "mvv",
    (32, 33): "v-m",
    (34, 51, 55): "m-s",
    (35, 36, 52, 53): "m-v",
    (39, 40, 41, 42, 43, 46, 49): "mmm",
    (56, 59, 62): "--s",
    (57, 60, 63): "--v",
    (58, 61, 64): "--m",
    (0,): "---",
}.items():
    for number in ops:
        SIGNATURES[number] = signature


def pcg4d(v):
    v = [(int(x) * 1664525 + 1013904223) % 2**32 for x in v]
    for last in (False, True):
        for i, (j, k) in enumerate(((1, 3), (2, 0), (0, 1), (1, 2))):
            v[i] = (v[i] + v[j] * v[k]) % 2**32
        if not last:
            v = [x ^ (x >> 16) for x in v]
    return v


def uniforms(shape, seed, task, number):
    drawn = [pcg4d((seed, task, element, number))[:2] for element in range(int(np.prod(shape)))]
    return (np.array(drawn, np.uint64) >> 8).astype(f32).T.reshape(2, *shape) * f32(2**-24)


def live_ordinals(components, vectors=False):
    """{(component, slot): ordinal} of live random instructions, by walking sets backwards until nothing changes."""

    def address(kind, i):
        return None if kind == "-" else (kind, i)

    def walk(component, after):
        live, used = set(after), set()
        for slot in reversed(range(len(component))):
            op, a, b, o = (int(x) for x in component[slot][:4])
            ka, kb, ko = SIGNATURES[op]
            if address(ko, o) in live and ko != "-":
                used.add(slot)
                if op not in (57, 58):
                    live.discard(address(ko, o))
                live |= {x for x in (address(ka, a), address(kb, b)) if x}
        return live, used

    fresh = {("v", 1), ("v", 0)} if vectors else {("s", 0), ("v", 0)}
    read = ("v", 2) if vectors else ("s", 1)
    before_predict, before_learn = set(), set()
    while True:
        learn_in, learn_used = walk(components[2], before_predict - fresh)
        predict_in, predict_used = walk(components[1], {read} | (before_predict - fresh) | (learn_in - fresh))
        if (predict_in, learn_in) == (before_predict, before_learn):
            break
        before_predict, before_learn = predict_in, learn_in
    _, setup_used = walk(components[0], before_predict - fresh)
    ordinals = {}
    for c, used in enumerate((setup_used, predict_used, learn_used)):
        drawn = [slot for slot in sorted(used) if components[c][slot][0] in RANDOM]
        ordinals |= {(c, slot): k for k, slot in enumerate(drawn)}
    return ordinals


class Machine:
    def __init__(self, components, memory, features, seed, task, vectors=False):
        s, v, m = memory
        self.F, self.components, self.seed, self.task = features, components, seed, task
        self.mem = {
            "s": np.zeros(s, f32),
            "v": np.zeros((v, features), f32),
            "m": np.zeros((m, features, features), f32),
        }
        self.runs = [0, 0, 0]
        self.ordinals = live_ordinals(components, vectors)

    def run(self, c):
        for slot, instruction in enumerate(self.components[c]):
            op, a, b, o = (int(x) for x in instruction[:4])
            ka, kb, ko = SIGNATURES[op]
            if ko == "-":
                continue
            x = self.mem[ka][a] if ka != "-" else None
            y = self.mem[kb][b] if kb != "-" else None
            data = [f32(instruction[4])] if op == 56 else [f32(d) for d in instruction[5:8]]
            if op in RANDOM:
                if (c, slot) not in self.ordinals:
                    continue  # dead: nothing that it writes is ever seen
                data = data[:2] + [self.draw(c, slot, self.mem[ko][o].shape)]
            with np.errstate(all="ignore"):
                self.mem[ko][o] = compute(op, x, y, data, self.mem[ko][o], self.F)
        self.runs[c] += 1

    def draw(self, c, slot, shape):
        number = (self.runs[c] << 10 | self.ordinals[c, slot] << 2 | c) % 2**32
        return uniforms(shape, self.seed, self.task, number)


def std(x, axis=None):
    first = x[:, :1] if axis else x.ravel()[0]
    return np.std(x - first, axis=axis, dtype=f32)


def place(features, index):
    return min(features - 1, max(0, int(np.floor(f32(index) * f32(features)))))


def compute(op, x, y, data, old, F):
    if op in (1, 23, 39):
        return x + y
    if op in (2, 24, 40):
        return x - y
    if op in (3, 18, 25, 29, 41):
        return x * y
    if op in (4, 26, 42):
        return x / y
    if op in (5, 22, 38):
        return np.abs(x)
    if op in (6, 20, 30):
        return f32(1) / x
    if 7 <= op <= 14:
        return (np.sin, np.cos, np.tan, np.arcsin, np.arccos, np.arctan, np.exp, np.log)[op - 7](x)
    if op == 15:
        return f32(x >= 0)
    if op in (16, 17):
        return (x > 0).astype(f32)
    if op == 19:
        return np.full(F, x, f32)
    if op in (21, 34):
        return np.sqrt(np.sum(x * x, dtype=f32))
    if op == 27:
        return np.sum(x * y, dtype=f32)
    if op == 28:
        return np.outer(x, y)
    if op == 31:
        return np.array([np.sum(row * y, dtype=f32) for row in x])
    if op == 32:
        return np.repeat(x[:, None], F, 1)
    if op == 33:
        return np.repeat(x[None], F, 0)
    if op in (35, 36):
        return np.sqrt(np.sum(x * x, axis=op - 35, dtype=f32))
    if op == 37:
        return x.T.copy()
    if op == 43:
        return np.array([[np.sum(x[i] * y[:, j], dtype=f32) for j in range(F)] for i in range(F)])
    if op in (44, 45):
        return np.where(y < x, y, x)
    if op == 46:
        return np.where(x < y, x, y)
    if op in (47, 48):
        return np.where(x < y, y, x)
    if op == 49:
        return np.where(x > y, x, y)
    if op in (50, 51):
        return np.mean(x, dtype=f32)
    if op == 52:
        return np.mean(x, axis=1, dtype=f32)
    if op == 53:
        return std(x, 1)
    if op in (54, 55):
        return std(x)
    if op == 56:
        return data[0]
    new = old.copy()
    if op == 57:
        new[place(F, data[0])] = data[1]
        return new
    if op == 58:
        new[place(F, data[0]), place(F, data[1])] = data[2]
        return new
    c0, c1, (u, w) = data
    if op in (59, 60, 61):
        return np.full_like(u, c0) if c0 > c1 else c0 + (c1 - c0) * u
    return c0 + c1 * (np.sqrt(f32(-2) * np.log(f32(1) - u)) * np.cos(f32(2 * np.pi) * w))


def evaluate(program, memory, train_x, train_y, valid_x, valid_y, order, loss, seed=0, task=0, limit=100.0):
    """(fitness, train steps) of one program on one task."""
    machine = Machine(program, memory, train_x.shape[-1], seed, task)
    mem = machine.mem
    machine.run(0)
    best, steps = 0.0, 0

    def predict(x):
        mem["v"][0], mem["s"][0] = x, 0
        machine.run(1)
        return mem["s"][1]

    for epoch in order:
        for i in epoch:
            out = predict(train_x[i])
            steps += 1
            if loss == "accuracy":
                with np.errstate(over="ignore"):
                    out = mem["s"][1] = f32(1) / (f32(1) + np.exp(-out))
            if not abs(train_y[i] - out) <= limit:
                return best, steps
            mem["v"][0], mem["s"][0] = train_x[i], train_y[i]
            machine.run(2)
        lost = 0.0
        for x, y in zip(valid_x, valid_y, strict=True):
            out = predict(x)
            if loss == "accuracy":
                with np.errstate(over="ignore"):
                    lost += (1 / (1 + np.exp(-np.float64(out))) > 0.5) != (y > 0.5)
            else:
                if not abs(y - out) <= limit:
                    return best, steps
                lost += float(y - out) ** 2
        mean = lost / len(valid_y)
        fitness = 1 - mean if loss == "accuracy" else 1 - 2 / np.pi * np.arctan(np.sqrt(mean))
        best = max(best, fitness)
    return best, steps


def evaluate_classes(program, memory, train_x, train_y, valid_x, valid_y, order, classes, seed=0, task=0):
    """(fitness, train steps) of one program on one task of several classes: label in v1, prediction in v2."""
    machine = Machine(program, memory, train_x.shape[-1], seed, task, vectors=True)
    v = machine.mem["v"]
    machine.run(0)
    best, steps = 0.0, 0
    for epoch in order:
        for i in epoch:
            v[0], v[1] = train_x[i], 0
            machine.run(1)
            steps += 1
            with np.errstate(all="ignore"):
                weights = np.exp(v[2, :classes] - v[2, :classes].max())
                v[2, :classes] = weights / weights.sum()
            label = (np.arange(train_x.shape[-1]) == train_y[i]).astype(f32)
            if not max(abs(label[:classes] - v[2, :classes]), default=0) <= 100 or np.isnan(v[2, :classes]).any():
                return best, steps
            v[0], v[1] = train_x[i], label
            machine.run(2)
        right = 0
        for x, y in zip(valid_x, valid_y, strict=True):
            v[0], v[1] = x, 0
            machine.run(1)
            largest, predicted = -np.inf, 0
            for c in range(classes):
                if v[2, c] >= largest:
                    largest, predicted = v[2, c], c
            right += predicted == y
        best = max(best, right / len(valid_y))
    return best, steps
