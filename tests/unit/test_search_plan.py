"""A search.toml: what it says, and what is wrong with it."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgeprof.errors import EdgeprofError, SearchError, UsageError
from edgeprof.search.assembling import assemble, goals_of
from edgeprof.search.plan import parse_plan, read_plan
from edgeprof.search.spaces import Layers, OnceForAll, Stage, space_of
from latency_models.building import BuildError

PLAN = """
objectives = ["error", "latency"]
[limits]
latency_s = 0.01
accuracy = 0.9
[space]
name = "sound"
length = 20
[accuracy]
by = "table"
table = "known.csv"
[[targets]]
board = "raspberrypi-5"
"""


def test_objectives_come_first_and_limits_behind_them() -> None:
    plan = parse_plan(PLAN.replace("accuracy = 0.9", "accuracy = 0.9\nsize_bytes = 1000.0"), "search.toml")

    goals = goals_of(plan, ["raspberrypi-5"])

    assert [(goal.name, goal.limit, goal.is_objective) for goal in goals] == [
        ("error", pytest.approx(0.1), True), ("latency", 0.01, True), ("size", 1000.0, False),
    ]  # fmt: skip


def test_several_targets_can_each_be_an_objective() -> None:
    plan = parse_plan(PLAN + '[[targets]]\nboard = "jetson-nano"\n', "search.toml")

    assert len(goals_of(plan, ["a", "b"])) == 2
    each = parse_plan('across = "each"\n' + PLAN + '[[targets]]\nboard = "jetson-nano"\n', "search.toml")
    assert [goal.name for goal in goals_of(each, ["a", "b"])] == ["error", "latency a", "latency b"]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"latency"]', '"speed"]', "Invalid enum value 'speed'"),
        ('"latency"]', '"error"]', "each once"),
        ("accuracy = 0.9", "accuracy = 1.5", r"`float` < 1.0 - at `\$.limits.accuracy`"),
        ("latency_s = 0.01", "latency = 0.01", "unknown field `latency`"),
        ('board = "raspberrypi-5"', "threads = 2", "neither predictor, board nor device"),
        ('board = "raspberrypi-5"', 'board = "a"\npredictor = "b"', "a predictor and a board"),
        ('board = "raspberrypi-5"', 'board = "a"\nin_the_loop = "always"', "it has no device"),
        ('board = "raspberrypi-5"', 'device = "pi5"', "has no predictor"),
        ('[[targets]]\nboard = "raspberrypi-5"', "", "There is no"),
        ('table = "known.csv"', "", 'needs table = "..."'),
        ('by = "table"\ntable = "known.csv"', 'by = "supernet"', r"needs \[data\]"),
        ('[space]\nname = "sound"\nlength = 20', "", r"there is no \[space\]"),
        ("[limits]", "[limits", "Expected ']'"),
    ],
)
def test_what_contradicts_itself_is_said_with_where_it_is_explained(old: str, new: str, message: str) -> None:
    assert old in PLAN

    with pytest.raises(UsageError, match=message) as caught:
        parse_plan(PLAN.replace(old, new), "search.toml")
    assert "docs/reference/search.md" in caught.value.advice


def test_a_plan_that_is_not_there_or_no_text_is_said(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        read_plan(tmp_path / "none.toml")
    (tmp_path / "bytes.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(UsageError, match="cannot be read"):
        read_plan(tmp_path / "bytes.toml")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ('name = "sound"', "there is no space 'noise'"),
        ("length = 20", "unexpected keyword argument 'lenght'"),
        ('board = "raspberrypi-5"', "no board"),
        ('table = "known.csv"', "cannot be read"),
    ],
)
def test_what_a_plan_names_and_is_not_there_is_said(tmp_path: Path, changed: str, message: str) -> None:
    new = {
        'name = "sound"': 'name = "noise"', "length = 20": "lenght = 20",
        'board = "raspberrypi-5"': 'board = "raspberrypi-99"', 'table = "known.csv"': 'table = "none.csv"',
    }[changed]  # fmt: skip
    plan = parse_plan(PLAN.replace(changed, new), "search.toml")

    with pytest.raises(EdgeprofError, match=message):
        assemble(plan, tmp_path, tmp_path)


# --- spaces of one's own ---


def test_layers_in_toml_are_a_space(tmp_path: Path) -> None:
    space = space_of(
        {
            "input": [8, 8, 1],
            "layers": [
                {"conv": [4, 8], "kernel": [1, 3], "stride": 2, "activation": "relu"},
                {"depthwise": 3, "repeat": [1, 2], "residual": True},
                {"global_average": True},
                {"dense": 10},
            ],
        },
        tmp_path,
    )

    assert [gene.name for gene in space.genes] == ["conv 1 channels", "conv 1 kernel", "depthwise 2 repeat"]
    assert space.n_architectures == 8
    small, large = space.graph((0, 0, 0)), space.graph((1, 1, 1))
    assert [node.type for node in small.operators].count("Conv") == 2
    assert [node.type for node in large.operators].count("Conv") == 3
    assert [node.type for node in large.operators].count("Add") == 2
    assert space.graph((0, 0, 0), "tflite").format == "tflite"


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        ({"convolution": 3}, "names no layer, or several"),
        ({"conv": 3, "dense": 4}, "names no layer, or several"),
        ({"conv": 3, "size": 4}, "conv, has no size"),
        ({"conv": []}, "conv has no choices"),
    ],
)
def test_layers_that_there_are_not_are_refused(layer: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Layers(input=[8, 8, 1], layers=[layer])


def test_layers_that_do_not_fit_are_told_when_they_are_built() -> None:
    space = Layers(input=[8, 8, 1], layers=[{"conv": [4, 8]}, {"dense": 10}])

    with pytest.raises(BuildError, match="dense: is not for images"):
        space.graph((0,))


MINE = """
from edgeprof.search.space import Gene, SearchSpace
class Mine(SearchSpace):
    name = "mine"
    def __init__(self, width=8):
        self.widths = (width, 2 * width)
    @property
    def genes(self):
        return (Gene("k", (1, 3), True), Gene("w", self.widths, True))
    def build(self, net, architecture):
        chosen = self.describe(architecture)
        x = net.conv(net.image(8, 8, 1), chosen["w"], chosen["k"], activation="relu")
        return net.dense(net.global_average(x, keep=False), 10)
class No: pass
"""


def test_a_class_in_a_file_beside_the_plan_is_a_space(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(MINE)

    space = space_of({"python": "mine.py:Mine", "width": 4}, tmp_path)

    assert space.describe((1, 1)) == {"k": 3, "w": 8}
    for path, message in (
        ("mine.py:No", "makes no SearchSpace"), ("mine.py:Other", "has no Other"),
        ("none.py:Mine", "cannot be imported"), ("mine.py", "names nothing"),
    ):  # fmt: skip
        with pytest.raises(UsageError, match=message):
            space_of({"python": path}, tmp_path)
    (tmp_path / "broken.py").write_text("1 / 0")
    with pytest.raises(UsageError, match="ZeroDivisionError"):
        space_of({"python": "broken.py:Mine"}, tmp_path)


def test_stages_can_be_given(tmp_path: Path) -> None:
    space = space_of({"name": "once-for-all", "stages": [[16, 1, "relu", False]]}, tmp_path)

    assert isinstance(space, OnceForAll)
    assert space.stages == (Stage(16, 1, "relu", False),)


def test_a_space_of_one_net_is_no_search(tmp_path: Path) -> None:
    plan = parse_plan(
        PLAN.replace('name = "sound"\nlength = 20', "input = [8, 8, 1]\nlayers = [{ conv = 4 }]"), "search.toml"
    )

    with pytest.raises(SearchError, match="has one net"):
        assemble(plan, tmp_path, tmp_path)
