"""The command line, called in this process, and what may come of it."""

import contextlib
import io
import re
from typing import NamedTuple

from tests.fuzz.fuzzing import must
from zero_jax import cli

CODES = {0: "done", 2: "bad input", 130: "interrupted", 143: "terminated"}


class Done(NamedTuple):
    code: int
    out: str
    err: str


def call(*arguments):
    """Runs a command; checks what holds of all of them."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = cli.main(arguments)
        except SystemExit as end:
            code = end.code
    shown = str([word if len(word) < 300 else f"{word[:300]}..." for word in arguments])
    done = Done(code, out.getvalue(), err.getvalue())
    must(code in CODES, f"exit code {code} of {shown}")
    both = done.out + done.err
    must("Traceback" not in both, both[-3000:])
    raw = re.findall(r"[^\n -~]", "".join(c for c in both if not c.isprintable()))
    must(not raw, f"raw characters {raw[:10]} of {shown}: {both[-1000:]!r}")
    if code == 2:
        must(done.err.strip(), f"no message of {shown}")
        messages = [
            line
            for line in done.err.splitlines()
            if line.startswith("zero-jax: ") and not line.startswith("zero-jax: note:")
        ]
        must(len(messages) <= 1, f"several messages of {shown}: {done.err}")
        longest = max(map(len, done.err.splitlines()))
        must(longest <= 2100 and len(done.err) < 10_000, f"{len(done.err)} characters of {shown}: {done.err[:500]}")
    return done
