"""Programs as pictures."""

import itertools
import re

import numpy as np
import pytest

from zero_jax import Component, Programs, SearchSpace, cli, library, random_programs
from zero_jax.program import graph
from zero_jax.program.memory import Interface

EVERYTHING = SearchSpace((5, 5, 3), *(Component(range(65), (1, n, n)) for n in (6, 15, 20)))


def test_boxes_say_what_is_computed_and_what_for():
    setup, predict, learn = graph.nodes(library.program("network"))
    assert [node.lines for node in predict if node.solid] == [
        ("before_activation = dot(hidden_weights, x)", "layer"),
        ("v3 = before_activation + hidden_bias",),
        ("hidden = maximum(v3, 0)", "activation"),
        ("new_s1 = dot(hidden, output_weights)",),
        ("prediction = new_s1 + bias",),
    ]
    updated = {node.lines[0].split(" = ")[0] for node in learn if "update" in node.lines}
    assert updated == {"bias", "output_weights", "hidden_bias", "hidden_weights"}
    learned = {node.lines[0].split(" = ")[0] for part in (setup, predict, learn) for node in part
               if node.colour == graph.LEARNED}  # fmt: skip
    assert learned == updated
    assert {node.lines[0] for node in predict if node.colour == graph.GIVEN} == {"x"}
    assert {node.lines[0] for node in learn if node.colour == graph.GIVEN} == {"x", "y"}


def test_a_value_that_is_written_twice_is_read_where_it_was_meant():
    text = "def Setup():\ndef Predict():\n s1 = dot(v0, v1)\ndef Learn():\n s2 = s0 - s1\n s2 = s2 * s2\n v1 = s2 * v0"
    learn = graph.nodes(Programs.parse(text))[2]
    error, square = (next(node for node in learn if node.lines[0].startswith(name)) for name in ("error", "step"))
    assert square.sources == (learn.index(error),)


@pytest.mark.parametrize("vector", [False, True])
def test_no_box_stands_upon_another_and_arrows_go_down(vector):
    some = random_programs(EVERYTHING, 40, np.random.default_rng(0))
    interface = (Interface.vector if vector else Interface.scalar)(some.memory)
    drawn = 0
    for i in range(len(some)):
        for found in graph.nodes(some[i : i + 1], interface):
            part = graph._placed(found)
            boxes = [box for box in part.boxes if box.node]
            drawn += len(boxes)
            for a, b in itertools.combinations(boxes, 2):
                beside = a.x + a.width < b.x or b.x + b.width < a.x
                assert beside or a.y + a.height < b.y or b.y + b.height < a.y
            for chain in part.arrows:
                heights = [part.boxes[n].y for n in chain]
                assert all(above < below for above, below in itertools.pairwise(heights))
    assert drawn > 300


def test_positions_are_the_nearest_that_keep_apart():
    wanted, widths = [0.0, 0.0, 5.0, 5.0, 5.0], [1.0, 2.0, 1.0, 1.0, 1.0]
    places = np.array(graph._apart(wanted, widths))
    np.testing.assert_allclose(places, [-0.5, 0.5, 4.0, 5.0, 6.0])


def test_it_is_drawn_from_the_command_line(tmp_path, capsys):
    file = tmp_path / "network.svg"
    assert cli.main(["show", "network", "--graph", str(file)]) == 0
    assert capsys.readouterr().out == f"Written to {file}\n"
    first = file.read_text()
    assert {"Setup", "Predict", "Learn"} <= set(re.findall("<!-- (.*) -->", first))
    assert "hidden = maximum(v3, 0)" in first
    assert cli.main(["show", "network", "--graph", str(file)]) == 0
    assert file.read_text() == first
    for kind in ("png", "pdf"):
        assert cli.main(["show", "softmax_network", "--graph", str(tmp_path / f"a.{kind}")]) == 0
        assert (tmp_path / f"a.{kind}").stat().st_size > 1000


def test_mistakes_are_named(tmp_path, capsys):
    two = tmp_path / "two.json"
    two.write_text(random_programs(EVERYTHING, 2, np.random.default_rng(0)).to_json())
    for program, out, message in (
        ("linear", "a.gif", "expected a name that ends in .svg, .png, .pdf"),
        ("linear", "none/a.svg", "none"),
        (str(two), "a.svg", "draws one program, but there are 2"),
    ):
        assert cli.main(["show", program, "--graph", str(tmp_path / out)]) == 2
        assert message in capsys.readouterr().err
        assert sorted(file.name for file in tmp_path.iterdir()) == ["two.json"]
    with pytest.raises(ValueError, match="shows one program, not 2"):
        graph.graph(random_programs(EVERYTHING, 2, np.random.default_rng(0)))
    with pytest.raises(IndexError):
        library.program("linear").graph(1)
