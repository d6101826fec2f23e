"""Mutations of valid inputs, and the loop that tries them: whatever comes, it is accepted or refused, in time."""

import contextlib
import faulthandler
import json
import multiprocessing
import os
import random
import re
import resource
import signal
import time
import traceback
import warnings
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool

HANG_SECONDS = 30
CPU_SECONDS = 10
"""An input takes milliseconds; what takes the square of its size takes minutes."""

MOST_BYTES = 2**30

MOST_FAILURES = 10


class Hang(BaseException):
    """Nothing in the package catches it."""


class Refused(Exception):
    """An input that was refused as it should be."""


def must(condition, message):
    """As `assert`, in modules that pytest does not rewrite."""
    if not condition:
        raise AssertionError(message)


def check_message(message, most=700):
    """Errors are for people: short, and safe to print."""
    must(message.strip(), "an empty message")
    must(len(message) <= most, f"a message of {len(message)} characters: {message[:300]!r}")
    must(message.replace("\n", "").isprintable(), f"a raw message: {message!r}")


@contextlib.contextmanager
def refusals(errors=(ValueError,)):
    """Turns an error that people are to see into `Refused`."""
    try:
        yield
    except errors as error:
        must(not isinstance(error, UnicodeError), f"not a message for people: {error!r}")
        check_message(str(error))
        raise Refused from error


@contextlib.contextmanager
def watched():
    """Ends a block that hangs: in Python with an error, in compiled code with the process."""

    def ring(number, frame):
        raise Hang("".join(traceback.format_stack(frame, 12)))

    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(HANG_SECONDS)
    faulthandler.dump_traceback_later(3 * HANG_SECONDS, exit=True)
    began, memory = time.process_time(), _peak()
    try:
        yield
    finally:
        signal.alarm(0)
        faulthandler.cancel_dump_traceback_later()
        signal.signal(signal.SIGALRM, before)
    took = time.process_time() - began
    must(took < CPU_SECONDS, f"took {took:.1f} s")
    must(_peak() - memory < MOST_BYTES, f"took {_peak() - memory:,} bytes")


def _peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


def tried(attempt, kind, number):
    """Tries one input: its own seed makes it. Returns whether it was accepted, and what went wrong."""
    try:
        with watched(), warnings.catch_warnings():
            warnings.simplefilter("error")
            attempt(random.Random(f"{kind} {number}"))
    except Refused:
        return False, ""
    except (Exception, SystemExit, KeyboardInterrupt, Hang) as error:
        shown = "".join(traceback.format_exception(error, limit=-8))
        return False, f"{kind} {number}: {shown[-3000:]}"
    return True, ""


class Process:
    """Tries inputs in another process, which may end at one."""

    def __enter__(self):
        self.pool = ProcessPoolExecutor(1, multiprocessing.get_context("spawn"))
        return self

    def __exit__(self, *_):
        self.pool.shutdown(cancel_futures=True)

    def __call__(self, attempt, kind, number):
        try:
            return self.pool.submit(tried, attempt, kind, number).result()
        except BrokenProcessPool:
            self.__enter__()
            return False, f"{kind} {number}: the process ended"


class Fuzzer:
    """Tries inputs of one kind: a fixed number of them, then, if asked, more until time is up."""

    def __init__(self, seconds, record):
        self.seconds, self.record = seconds, record
        self.kind, self.accepted, self.refused, self.failures = "", 0, 0, []

    def __call__(self, kind, count, attempt, run=tried):
        self.kind = kind
        until = time.monotonic() + self.seconds
        only = os.environ.get("FUZZ_ONLY")
        for number in [int(only)] if only else self._numbers(count, until):
            accepted, failure = run(attempt, kind, number)
            self.accepted += accepted
            self.refused += not accepted and not failure
            self.failures += [failure] if failure else []
            if len(self.failures) == MOST_FAILURES:
                break
        self.record("fuzz", self.summary())
        assert not self.failures, f"{self.summary()}\n" + "\n".join(self.failures)

    def _numbers(self, count, until):
        yield from range(count)
        while time.monotonic() < until:
            yield count
            count += 1

    def summary(self):
        failed = f", {len(self.failures)} FAILED" if self.failures else ""
        count = self.accepted + self.refused + len(self.failures)
        return f"fuzz: {self.kind}: {count:,} inputs, {self.accepted:,} accepted, {self.refused:,} refused{failed}"


# ---------------------------------------------------------------------------------------------- hostile values

NUMBERS = [
    "0", "-0", "1", "-1", "2", "3", "65", "00", "1.5", "-1.5", "1e-45", "1e39", "-1e39", "1e400", "nan", "-nan", "inf", "-inf", "Infinity",
    "2147483647", "2147483648", "-2147483649", "4294967296", "9007199254740993", "9223372036854775807",
    "9223372036854775808", "18446744073709551616", "1" + 30 * "0", "9" * 400, "9" * 5000, "0x10", "1_0", "\u0663", "\uff11", "1e", "--1", ".", "1.", ".5", "+1",
]  # fmt: skip

TEXTS = [
    "", " ", "x", "\x00", "\x1b[31m", "\x1b]0;title\x07", "\x9b", "\x7f", "\r", "\u202e", "\u2028", "\u200b", "\ufeff", "\ud800", "\U0001f600", "e\u0301",
    "None", "null", "true", "__import__('os')", "../..", "/", ".", "-", "--", "=", "'", '"', "\\", "%s%n", "{0}", "{{7*7}}", "<script>", "$HOME", "~", "*", "x" * 300, "\u202e" * 100,
]  # fmt: skip

VALUES = [
    None, True, False, 0, 1, -1, 2, 3, 0.5, -0.5, 1e308, -1e308, 2**31, 2**53, 2**62, 2**63, 2**64, 10**30, 10**400,
    float("nan"), float("inf"), float("-inf"), [], {}, [[]], [None], {"x": 1}, *TEXTS,
]  # fmt: skip


# ---------------------------------------------------------------------------------------------- mutations

_TOKEN = re.compile(r"\w+|[^\w\s]")
_NUMBER = re.compile(r"[-+]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][-+]?\d+)?|nan|inf", re.ASCII)


def _place(rng, length):
    """A slice, more often a short one."""
    first = rng.randint(0, length)
    return first, min(length, first + rng.choice([0, 1, 1, 2, 4, 10, 100, rng.randint(0, length)]))


def _replaced(rng, pattern, text, values):
    matches = list(pattern.finditer(text))
    if not matches:
        return text
    at = rng.choice(matches)
    return text[: at.start()] + rng.choice(values) + text[at.end() :]


def mutated_text(rng, text, others):
    """A text changed in one to four ways; `others` are texts to splice with."""
    for _ in range(rng.choice([1, 1, 1, 2, 4])):
        first, last = _place(rng, len(text))
        part, lines, other = text[first:last], text.splitlines(keepends=True), rng.choice(others)
        way = rng.randrange(10)
        if way == 0:
            text = text[:first] + text[last:]
        elif way == 1:
            text = text[:first] + part * rng.choice([2, 3, 10, 1000 if len(part) < 100 else 2]) + text[last:]
        elif way == 2:
            text = text[:first] + rng.choice([*TEXTS, *NUMBERS]) + text[last:]
        elif way == 3:
            text = _replaced(rng, _TOKEN, text, [*TEXTS, *NUMBERS])
        elif way == 4:
            text = _replaced(rng, _NUMBER, text, NUMBERS)
        elif way == 5:
            text = _replaced(rng, _NUMBER, text, _NUMBER.findall(other) or ["1"])
        elif way == 6:
            text = _replaced(rng, _TOKEN, text, _TOKEN.findall(other) or [""])
        elif way == 7:
            start, end = _place(rng, len(other))
            text = text[:first] + other[start:end] + text[last:]
        elif way == 8 and lines:
            line = lines.pop(rng.randrange(len(lines)))
            lines.insert(rng.randint(0, len(lines)), line * rng.choice([1, 1, 2]))
            text = "".join(lines)
        else:
            text = text.replace(rng.choice(text or " "), rng.choice([*TEXTS, "\n", "\t", ";", "#"]))[:100_000]
    return text


def mutated_bytes(rng, data, others):
    """Bytes changed in one to four ways."""
    data = bytes(data)
    for _ in range(rng.choice([1, 1, 1, 2, 4])):
        first, last = _place(rng, len(data))
        other, way = rng.choice(others), rng.randrange(7)
        if way <= 1 and data:
            at = rng.randrange(len(data))
            data = data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1 :]
        elif way == 2:
            data = data[:first]
        elif way == 3:
            data = data[:first] + data[last:]
        elif way == 4:
            data = data[:first] + rng.randbytes(rng.choice([1, 2, 4, 100])) + data[last:]
        elif way == 5:
            at = rng.randint(0, max(len(data), len(other)))
            data = data[:at] + other[at:]
        else:
            data = data[:first] + data[first:last] * rng.choice([2, 3]) + data[last:]
    return data


def places(tree, here=()):
    """Every place in a tree of dicts and lists, its own included."""
    yield here
    children = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, child in children:
        yield from places(child, (*here, key))


def mutated_tree(rng, tree):
    """A tree of JSON changed in one or two places; the rest is shared."""
    for _ in range(rng.choice([1, 1, 2])):
        spots = list(places(tree))
        tree = _changed(rng, tree, rng.choice(spots), tree, spots)
    return tree


def _changed(rng, node, place, whole, spots):
    if len(place) > 1:
        copy = node.copy()
        copy[place[0]] = _changed(rng, node[place[0]], place[1:], whole, spots)
        return copy
    value = rng.choice(VALUES)
    if not place:
        return value
    copy, key, way = node.copy(), place[0], rng.randrange(8)
    if way == 0:
        del copy[key]
    elif way == 1 and isinstance(copy, list):
        copy.insert(key, rng.choice([value, node[key]]))
    elif way == 1:
        copy[rng.choice(TEXTS)] = value
    elif way == 2:
        copy[key] = [node[key]] if rng.randrange(2) else {"x": node[key]}
    elif way == 3:  # something from elsewhere in the tree
        copy[key] = whole
        for step in rng.choice(spots):
            copy[key] = copy[key][step]
    elif way == 4 and type(node[key]) in (int, float):
        copy[key] = rng.choice([node[key] + 1, -node[key], node[key] * 2, node[key] / 2, str(node[key])])
    else:
        copy[key] = value
    return copy


def dumped(tree):
    """JSON as anybody may write it: numbers of any length, lone surrogates escaped."""
    return json.dumps(tree)
