"""Text <-> programs."""

import json

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from tests.helpers import assert_equal
from zero_jax import Programs, library
from zero_jax.program.ops import OPS

MEMORY = (5, 4, 3)

constants = st.floats(width=32, allow_nan=False)


@st.composite
def instructions(draw):
    op = draw(st.sampled_from(OPS))
    sizes = dict(zip("svm", MEMORY, strict=True))
    operands = [
        draw(st.integers(0, sizes[kind] - 1)) for kind in op.inputs.ljust(2).replace(" ", "s") + (op.output or "s")
    ]
    return [op.number, *operands, *(draw(constants) for _ in range(4))]


components = st.lists(instructions(), max_size=6)


@given(st.tuples(components, components, components))
def test_every_form_gives_the_same_arrays_again(program):
    programs = Programs.from_lists([program], MEMORY)
    for text in (programs.listing(0), programs.to_proto(), programs.to_json()):
        assert_equal(Programs.parse(text, programs.memory, programs.capacity), programs)
    json.loads(programs.to_json(), parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))


def test_nan_the_infinities_and_the_largest_float_survive_too():
    largest = float(np.finfo(np.float32).max)
    programs = Programs.from_lists(
        [[[[59, 0, 0, 2, 0, float("nan"), float("inf")]], [[56, 0, 0, 1, float("-inf")], [56, 0, 0, 1, -largest]], []]],
        MEMORY,
    )
    for text in (programs.listing(0), programs.to_proto(), programs.to_json()):
        assert_equal(Programs.parse(text, programs.memory, programs.capacity), programs)


def test_ops_print_as_upstream_and_the_paper_print_them():
    printed = {
        1: "s3 = s1 + s2", 4: "s3 = s1 / s2", 6: "s3 = 1 / s1", 15: "s3 = heaviside(s1, 1.0)", 17: "m3 = heaviside(m1, 1.0)",
        18: "v3 = s1 * v2", 19: "v3 = bcast(s1)", 28: "m3 = outer(v1, v2)", 31: "v3 = dot(m1, v2)",
        32: "m3 = bcast(v1, axis=0)", 33: "m3 = bcast(v1, axis=1)", 35: "v3 = norm(m1, axis=0)", 37: "m3 = transpose(m1)",
        43: "m3 = matmul(m1, m2)", 44: "s3 = minimum(s1, s2)", 49: "m3 = maximum(m1, m2)", 53: "v3 = std(m1, axis=1)",
        56: "s3 = 0.25", 57: "v3[0.5] = 1.5", 58: "m3[0.5, 1.5] = -2.0", 59: "s3 = uniform(0.5, 1.5)",
        60: "v3 = uniform(0.5, 1.5, n_features)", 64: "m3 = gaussian(0.5, 1.5, (n_features, n_features))", 0: "NoOp()",
    }  # fmt: skip
    rows = [[number, 1, 2, 3, 0.25, 0.5, 1.5, -2.0] for number in printed]
    lines = Programs.from_lists([[rows, [], []]], (4, 4, 4)).listing(0).splitlines()
    assert lines[0] == "def Setup():"
    assert lines[1:-2] == [f"  {line}" for line in printed.values()]
    assert lines[-2:] == ["def Predict():", "def Learn():"]


def test_the_papers_short_forms_comments_and_spacing_are_read():
    loose = "def  Learn( ) :\n\n  v8=heaviside( v3 )  # a comment\n m0 = gaussian(0,.1)\n\tpass\ndef Setup(): v2 = uniform(2e-3, 0.7)\n"
    programs = Programs.parse(loose)
    assert programs.length.tolist() == [[1, 0, 2]]
    assert programs.code[0, :, 0].tolist() == [60, 16, 64]
    assert tuple(programs.memory) == (2, 9, 1)


def test_upstreams_proto_is_read_with_fields_left_out():
    text = """
    # found by upstream
    predict_instructions { op: VECTOR_INNER_PRODUCT_OP in1: 1 out: 1 }
    learn_instructions {
      op: SCALAR_CONST_SET_OP
      out: 2 activation_data: 0.5
    }
    setup_instructions { op: VECTOR_CONST_SET_OP out: 1 float_data_0: 0.25 float_data_1: 2 }
    """
    programs = Programs.parse(text, (3, 2, 0))
    assert (
        programs.listing(0)
        == "def Setup():\n  v1[0.25] = 2.0\ndef Predict():\n  s1 = dot(v1, v0)\ndef Learn():\n  s2 = 0.5"
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("def Setup():\n  s2 = 0.5\n\n  s2 = foo(s1)", r"line 4 \(Setup, instruction 2\): cannot read 's2 = foo\(s1\)'"),
        ("def Predict():\n  s9 = s1 + s2", r"line 2 \(Predict, instruction 1\): s9 is outside the memory of 4 scalars"),
        ("def Predict():\n  s1 = v1 + v2", "cannot read"),
        ("s1 = s2", "line 1: 's1 = s2' comes before the first"),
        ("def Train():", "'Train' must be Setup, Predict or Learn"),
        ("def Setup():\ndef Setup():", "occurs twice"),
        ("", "there is no 'def Setup"),
        ("predict_instructions { op: FOO_OP }", r"line 1 \(Predict, instruction 1\): unknown op 'FOO_OP'"),
        ("predict_instructions { op: SCALAR_SUM_OP in1: x }", "not an address: 'x'"),
        ("predict_instructions { op: SCALAR_SUM_OP in1 3 }", "as 'field: value'"),
        ("predict_instructions { oops: 3 }", "unknown field 'oops'"),
        ("setup_instructions { op: SCALAR_SUM_OP }\npredict_instructions { op: VECTOR_SUM_OP in1: 7 }", r"line 2 \(Predict, instruction 1\): v7"),
        ("setup_instructions { op: SCALAR_SUM_OP }\nwhat is this", "line 2: expected 'setup_instructions"),
        ('{"schema": 1', "not JSON"),
        ('{"schema": 9, "memory": [4, 3, 1], "programs": []}', "schema 9 is not 1"),
        ('{"memory": [4, 3, 1]}', "an object with schema"),
        ('{"schema": 1, "memory": [4, 3, 1], "programs": [3]}', "program 0 must be a list, not 3"),
        ('{"schema": 1, "memory": 4, "programs": []}', "three whole numbers"),
        ('{"schema": 1, "memory": [4, 3, 1], "programs": [[[], [[70, 0, 0, 0]], []]]}', "there is no op 70"),
    ],
)  # fmt: skip
def test_malformed_text_is_refused_with_its_place(text, message):
    with pytest.raises(ValueError, match=message):
        Programs.parse(text, None if text.startswith("{") else (4, 3, 1))


def test_the_library_has_the_programs_of_the_specification():
    assert library.NAMES == ("linear", "network", "cifar10", "softmax_linear", "softmax_network")
    assert {name: library.program(name).length[0].tolist() for name in library.NAMES} == {
        "linear": [1, 1, 4],
        "network": [3, 5, 11],
        "cifar10": [0, 5, 12],
        "softmax_linear": [1, 2, 5],
        "softmax_network": [2, 5, 12],
    }
    assert tuple(library.program("network").memory) == (5, 9, 2)
    assert library.program("linear", learning_rate=0.25).data[0, 0, 0] == 0.25
    with pytest.raises(ValueError, match="no program 'foo' in the library"):
        library.program("foo")
    with pytest.raises(ValueError, match="v3 is outside"):
        library.program("network", memory=(5, 3, 2))
    with pytest.raises(ValueError, match="capacity"):
        library.program("network", capacity=(1, 1, 1))


def test_floats_print_as_the_shortest_decimal_of_their_float32():
    programs = Programs.from_lists([[[[56, 0, 0, 2, 0.1]], [], []]], (3, 1, 0))
    assert "s2 = 0.1\n" in programs.listing(0)
    assert np.float32(0.1) == programs.data[0, 0, 0]
