"""Programs as text from strangers: numbers are read strictly, in time that grows with the text, and sizes are bounded."""

import json
import os
import threading
import time

import numpy as np
import pytest

from zero_jax import Programs, library
from zero_jax.support.bounds import BOUNDS, MAX_TEXT
from zero_jax.tasks import sets

MOST = BOUNDS["instructions"][1]


def as_listing(number):
    return f"def Setup():\n s2 = {number}"


def as_proto(number):
    return f"setup_instructions {{ op: SCALAR_CONST_SET_OP out: 2 activation_data: {number} }}"


def as_json(number, **more):
    tree = {"schema": 1, "memory": [3, 1, 0], "programs": [[[[56, 0, 0, 2, "X"]], [], []]]} | more
    return json.dumps(tree).replace('"X"', number)


FORMS = [as_listing, as_proto, as_json]


# ---------------------------------------------------------------------------------------------- strict numbers


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("number", ["1e39", "-3.5e38", "1e400", "-1e400", "1" + 400 * "0", "9" * 900])
def test_every_form_refuses_what_is_beyond_float32(form, number):
    with pytest.raises(ValueError, match="beyond float32") as refused:
        Programs.parse(form(number))
    assert len(str(refused.value)) < 200


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("number", ["1_0", "\uff11", "\u0663", "0x1", "true", "1.", "+1"])
def test_every_form_refuses_numbers_that_only_python_reads(form, number):
    fine = {"1.": 1, "+1": 1} if form is not as_json else {}
    if number in fine:
        assert Programs.parse(form(number)).data[0, 0, 0] == fine[number]
        return
    with pytest.raises(ValueError, match=r"cannot read|not a number|not JSON|list of up to 8 numbers"):
        Programs.parse(form(number))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("text", "value"), [("inf", np.inf), ("-inf", -np.inf), ("nan", np.nan), ("1e-40", 1e-40), ("1e-99", 0)]
)
def test_every_form_keeps_infinity_nan_and_subnormal_numbers(form, text, value):  # fmt: skip
    number = f'"{text}"' if form is as_json and text.isalpha() | text.startswith("-") else text
    programs = Programs.parse(form(number))
    np.testing.assert_array_equal(programs.data[0, 0, 0], np.float32(value))


@pytest.mark.parametrize("address", ["1_0", "\uff11", "1.0", "9" * 5000, "9" * 9])
def test_addresses_are_plain_digits_and_bounded(address):
    for text in (
        f"def Setup():\n s{address} = 0.5",
        f"setup_instructions {{ op: SCALAR_CONST_SET_OP out: {address} }}",
        as_json("0.5").replace(" 2, 0.5", f' "{address}", 0.5'),
    ):
        with pytest.raises(ValueError, match=r"cannot read|not an address|scalars must be|list of up to|characters"):
            Programs.parse(text)


@pytest.mark.parametrize(
    ("program", "message"),
    [
        ("1234", "program 0 must be a list, not '1234'"),
        (["1234", [], []], "program 0, setup must be a list"),
        ([["1234"], [], []], "instruction 1: an instruction is a list of up to 8 numbers, not '1234'"),
        ([[[True, 0, 0, 2]], [], []], "list of up to 8 numbers"),
        ([[["56", 0, 0, 2]], [], []], "list of up to 8 numbers"),
        ([[["inf", 0, 0, 2]], [], []], "list of up to 8 numbers"),
        ([[[56, 0, 0, 2, "1_0"]], [], []], "list of up to 8 numbers"),
        ([[[56, 0, 0, 2, "1.5"]], [], []], "list of up to 8 numbers"),
        ([[[56, 0, 0, 2, True]], [], []], "list of up to 8 numbers"),
        ([[[56, 0, 0, 2, None]], [], []], "list of up to 8 numbers"),
        ([[{"56": 0}], [], []], "list of up to 8 numbers"),
        ([[[56, 0, 0, 2, [1]]], [], []], "list of up to 8 numbers"),
        ([[[56, 0, 0, 2, 10**400]], [], []], "beyond float32"),
        ([[list(range(100_000))], [], []], "up to four constants"),
    ],
)
def test_types_of_lists_are_strict(program, message):
    with pytest.raises(ValueError, match=message) as refused:
        Programs.from_lists([program], (3, 1, 0))
    assert len(str(refused.value)) < 250
    with pytest.raises(ValueError, match=message):
        Programs.from_json(as_json("0").replace(json.dumps([[[56, 0, 0, 2, 0]], [], []]), json.dumps(program)))


def test_arrays_and_their_numbers_are_taken():
    rows = np.array([[56, 0, 0, 2, 0.5]])
    for setup in (rows, list(rows), [[np.int64(56), 0, 0, np.int32(2), np.float32(0.5)]], ((56, 0, 0, 2, 0.5),)):
        assert Programs.from_lists([(setup, [], ())], (3, 1, 0)).data[0, 0, 0] == 0.5
    for wrong in (np.array([["56", "0"]]), np.array([[True, False]])):
        with pytest.raises(ValueError, match="list of up to 8 numbers"):
            Programs.from_lists([(wrong, [], [])], (3, 1, 0))


@pytest.mark.parametrize("schema", ["true", "1.0", '"1"', "[1]", "2"])
def test_only_the_schema_1_is_1(schema):
    with pytest.raises(ValueError, match="which this version reads"):
        Programs.from_json(as_json("0.5").replace('"schema": 1', f'"schema": {schema}'))


# ---------------------------------------------------------------------------------------------- bounds


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"capacity": [2147483648, 0, 0]}, r"instructions must be from 0 to 10,000, not 2147483648"),
        ({"capacity": [10**30, 0, 0]}, "instructions must be from 0 to 10,000"),
        ({"memory": [2147483648, 1, 0]}, "scalars must be from 2 to 10,000, not 2147483648"),
        ({"memory": [3, 10**39, 0]}, "vectors must be from 1 to 10,000"),
        ({"memory": [3, 1, 10_001]}, "matrices must be from 0 to 10,000, not 10001"),
        ({"capacity": [MOST, 0, 0], "programs": [[[], [], []]] * 40_000}, r"would take 10.4 GiB of memory; 8 GiB are"),
    ],
)
def test_json_cannot_claim_more_than_is_allowed(more, message):
    with pytest.raises(ValueError, match=message):
        Programs.from_json(as_json("0.5", **more))


def test_a_program_has_at_most_so_many_instructions():
    line, block, row = " s2 = 0.5\n", as_proto("0.5") + "\n", [56, 0, 0, 2, 0.5]
    for n in (MOST, MOST + 1):
        texts = ["def Setup():\n" + n * line, n * block, as_json("0", programs=[[[row] * n, [], []]])]
        for text in texts:
            if n == MOST:
                assert Programs.parse(text).length.tolist() == [[n, 0, 0]]
                continue
            with pytest.raises(ValueError, match="instructions must be from 0 to 10,000, not 10001"):
                Programs.parse(text)


@pytest.mark.parametrize(
    "text",
    [
        as_listing("1" * 10_000_000),
        as_listing("1." + "1" * 10_000 + "x"),
        as_listing("-" * 3_000_000),
        "def " * 3_000_000,
        "def Setup" + " " * 10_000_000 + "x",
        "def Setup():\n s2 = uniform(" + " " * 10_000_000 + "0.5",
        "def Setup():\n" + "x\n" * 3_000_000,
        "setup_instructions" + " " * 10_000_000 + "x",
        "setup_instructions" + "\n" * 10_000_000 + "{ x",
        "setup_instructions " * 600_000,
        "setup_instructions {" + " " * 10_000_000 + "} x",
        "setup_instructions {" + "in1: " * 2_000_000 + "}",
        "# SerializedAlgorithm\n" + "{" * 10_000_000,
        "# SerializedAlgorithm\n" + "}" * 10_000_000,
        "# SerializedAlgorithm\n" + "{}" * 5_000_000,
        as_proto("0.5 ") * 150_000,
        as_proto("1" * 10_000_000),
        "[" * 10_000_000,
        '{"a":' * 2_000_000,
        as_json("1" * 10_000_000),
        as_json("1." + "1" * 10_000_000 + "e999"),
        as_json("[" * 300 + "]" * 300),
    ],
    ids=lambda text: f"{text[:30]!r} of {len(text)}",
)
def test_bad_text_is_refused_in_time_that_grows_with_its_length(text):
    began = time.process_time()
    with pytest.raises(ValueError, match=r".") as refused:
        Programs.parse(text)
    assert time.process_time() - began < 20  # a second at most here; what took the square of the length took hours
    assert len(str(refused.value)) < 300


def test_long_texts_are_refused_before_they_are_read(tmp_path):
    with pytest.raises(ValueError, match="the text has 16,777,217 characters"):
        Programs.parse(" " * (MAX_TEXT + 1))
    with pytest.raises(ValueError, match="the text has 16,777,217 characters"):
        Programs.parse("{" * (MAX_TEXT + 1))
    path = tmp_path / "long.txt"
    with open(path, "wb") as file:
        file.truncate(2**40)  # a sparse file: nobody could read it
    with pytest.raises(ValueError, match="has more than 16,777,216 characters"):
        library.load(str(path))


def test_a_fifo_that_nobody_writes_to_is_not_waited_for(tmp_path):
    path = tmp_path / "fifo"
    os.mkfifo(path)
    with pytest.raises(ValueError, match="there is no 'def Setup"):
        library.load(str(path))
    os.mkfifo(tmp_path / "mine.npz")
    with pytest.raises(ValueError, match=r"mine\.npz is not a regular file"):
        sets.load(tmp_path / "mine.npz")


def test_a_pipe_is_read_to_its_end():
    text = library.program("network").listing(0)
    read, write = os.pipe()
    with os.fdopen(write, "w") as pipe:
        slow = threading.Thread(target=lambda: (time.sleep(0.3), pipe.write(text), pipe.close()))
        slow.start()
        assert library.load(f"/dev/fd/{read}").listing(0) == text
        slow.join()
    os.close(read)


def test_a_name_that_is_too_long_is_no_program():
    with pytest.raises(ValueError, match="cannot read xxxx") as refused:
        library.load(5000 * "x")
    assert len(str(refused.value)) < 500
