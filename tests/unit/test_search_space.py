"""Search spaces: what can be done with architectures, and that equal nets are equal architectures."""

from __future__ import annotations

import numpy as np
import pytest

from edgeprof.errors import UsageError
from edgeprof.search.space import Architecture, Gene, SearchSpace
from edgeprof.search.spaces import NasBench201, OnceForAll, Sound, Transformer
from latency_models.building import BuildError, GraphBuilder, Value


class Small(SearchSpace):
    """A space as a user writes it: depth, width, and a kernel for each of two layers, of which the second may lack."""

    name = "small"
    genes = (Gene("depth", (1, 2), True), Gene("width", (8, 16, 32), True), Gene("kernel 1", (1, 3, 5), True),
             Gene("kernel 2", (1, 3, 5), True), Gene("activation", ("relu", "hard_swish")))  # fmt: skip

    def canonical(self, architecture: Architecture) -> Architecture:
        return architecture if architecture[0] else (*architecture[:3], 0, architecture[4])

    def build(self, net: GraphBuilder, architecture: Architecture) -> Value:
        chosen = self.describe(architecture)
        x = net.image(32, 32)
        for layer in range(1, int(str(chosen["depth"])) + 1):
            x = net.conv(x, int(str(chosen["width"])), int(str(chosen[f"kernel {layer}"])))
        return net.dense(net.global_average(x, keep=False), 10)


SPACE = Small()


def test_samples_are_canonical_and_reach_everything() -> None:
    rng = np.random.default_rng(0)
    drawn = {SPACE.sample(rng) for _ in range(600)}
    assert len(drawn) == 18 + 54
    assert all(SPACE.canonical(one) == one for one in drawn)
    assert SPACE.n_architectures == 108


def test_a_mutation_changes_as_many_genes_as_asked_and_never_none() -> None:
    rng = np.random.default_rng(1)
    for _ in range(200):
        parent = SPACE.sample(rng)
        child = SPACE.mutate(parent, rng)
        assert child != parent
        assert child == SPACE.canonical(child)
    far = [SPACE.mutate((1, 0, 0, 0, 0), rng, n_genes=3) for _ in range(50)]
    assert max(sum(a != b for a, b in zip(one, (1, 0, 0, 0, 0), strict=True)) for one in far) == 3


def test_a_cross_takes_each_gene_from_one_of_both() -> None:
    rng = np.random.default_rng(2)
    one, other = (1, 0, 0, 0, 0), (1, 2, 2, 2, 1)
    children = {SPACE.cross(one, other, rng) for _ in range(200)}
    assert all(value in pair for child in children for value, pair in zip(child, zip(one, other), strict=True))  # noqa: B905
    assert len(children) == 16


def test_neighbours_differ_in_one_choice_that_matters() -> None:
    assert set(SPACE.neighbours((0, 0, 0, 0, 0))) == {
        (1, 0, 0, 0, 0), (0, 1, 0, 0, 0), (0, 2, 0, 0, 0), (0, 0, 1, 0, 0), (0, 0, 2, 0, 0), (0, 0, 0, 0, 1),
    }  # fmt: skip


def test_ordered_genes_are_one_number_and_others_one_for_each_choice() -> None:
    numbers, groups = SPACE.encode([(1, 2, 1, 0, 1)])
    assert groups.tolist() == [0, 1, 2, 3, 4, 4]
    np.testing.assert_allclose(numbers[0], [1.0, 1.0, 0.5, 0.0, 0.0, 0.5**0.5])
    assert SPACE.encode([])[0].shape == (0, 6)


def test_what_is_no_architecture_is_said() -> None:
    with pytest.raises(UsageError, match="has 2 genes, and small has 5"):
        SPACE.require([1, 2])
    with pytest.raises(UsageError, match="width is 3, and small has 0 to 2 there"):
        SPACE.require([1, 3, 0, 0, 0])
    assert SPACE.require([0, 1, 2, 2, 0]) == (0, 1, 2, 0, 0)
    with pytest.raises(UsageError, match="has no choices"):
        Gene("empty", ())


# --- NAS-Bench-201 ---


def test_a_cell_without_dead_edges_is_the_canonical_one() -> None:
    space = NasBench201()
    # nothing leaves node 2, since 2->3 is none: what leads there is dead
    assert space.canonical((4, 4, 4, 3, 0, 0)) == (0, 0, 0, 3, 0, 0)
    assert space.canonical((4, 0, 3, 0, 0, 1)) == (4, 0, 3, 0, 0, 1)
    assert NasBench201(prunes=False).canonical((4, 4, 4, 3, 0, 0)) == (4, 4, 4, 3, 0, 0)
    every = {space.canonical(tuple(one)) for one in np.ndindex(*space.sizes)}
    assert len(every) == 9445  # as the README of HELP's latencies counts them; one of them computes nothing


@pytest.mark.parametrize("format", ["onnx", "tflite"])
def test_a_cell_becomes_a_net_of_three_stages(format: str) -> None:
    space = NasBench201(n_cells=2)
    graph = space.graph((4, 3, 2, 1, 4, 2), format)
    types = [one.type for one in graph.operators]
    convolutions = "Conv" if format == "onnx" else "CONV_2D"
    # a stem, three in each of six cells, three in each of two blocks between the stages
    assert types.count(convolutions) == 1 + 3 * 6 + 3 * 2
    assert sum(one.macs or 0 for one in graph.operators) > 1e7


def test_a_cell_that_computes_nothing_is_said() -> None:
    with pytest.raises(BuildError, match="no edge leads from the first node"):
        NasBench201().graph((0, 0, 4, 0, 4, 4))


def test_dead_ways_look_alike_to_surrogates() -> None:
    numbers, groups = NasBench201(prunes=False).encode([(4, 0, 0, 3, 0, 0), (3, 0, 0, 3, 0, 0), (3, 0, 0, 3, 4, 0)])
    ways = groups >= 6
    np.testing.assert_array_equal(numbers[0, ways], numbers[1, ways])
    assert (numbers[1, ways] != numbers[2, ways]).any()


# --- the others ---

SPACES: dict[str, SearchSpace] = {
    "once-for-all": OnceForAll(resolutions=(64, 96), depths=(1, 2), n_classes=10),
    "sound": Sound(),
    "images as tokens": Transformer(),
    "steps as tokens": Transformer(side=None),
    "nasbench201": NasBench201(n_cells=1),
}


@pytest.mark.parametrize("format", ["onnx", "tflite"])
@pytest.mark.parametrize("name", SPACES)
def test_what_is_drawn_becomes_a_net_and_equal_architectures_equal_ones(name: str, format: str) -> None:
    space, rng = SPACES[name], np.random.default_rng(0)
    distinct = set()
    for _ in range(8):
        architecture = space.sample(rng)
        assert space.canonical(architecture) == architecture
        if name == "nasbench201" and not any(architecture):
            continue
        graph = space.graph(architecture, format)
        assert len(graph.outputs) == 1
        distinct.add(tuple((one.type, one.macs) for one in graph.operators))
        # Whatever a choice that makes no difference is set to, the net is the same.
        for place, size in enumerate(space.sizes):
            other = (*architecture[:place], size - 1, *architecture[place + 1 :])
            if space.canonical(other) == architecture:
                assert [one.macs for one in space.graph(other, format).operators] == [
                    one.macs for one in graph.operators
                ]
                break
    assert len(distinct) > 4


def test_once_for_all_has_the_size_that_its_paper_says() -> None:
    # Cai et al. count more than 2e19 sub-nets, at one resolution and one width
    space = OnceForAll(resolutions=(224,), widths=(1.0,))
    per_stage = sum(9**depth for depth in (2, 3, 4))
    assert per_stage**5 == pytest.approx(2.2e19, rel=0.05)
    assert space.n_architectures > per_stage**5
    smallest, largest = (0,) * len(space.genes), tuple(size - 1 for size in space.sizes)
    macs = [sum(one.macs or 0 for one in space.graph(one).operators) for one in (smallest, largest)]
    # published sub-nets are between 150 and 600 million
    assert 0.1e9 < macs[0] < 0.2e9
    assert 0.5e9 < macs[1] < 1.0e9


def test_smaller_choices_make_smaller_nets() -> None:
    for name, gene in (("sound", "width"), ("images as tokens", "depth"), ("once-for-all", "resolution")):
        space = SPACES[name]
        place = [one.name for one in space.genes].index(gene)
        start = [0] * len(space.genes)
        macs = []
        for value in range(space.sizes[place]):
            start[place] = value
            macs.append(sum(one.macs or 0 for one in space.graph(space.require(start)).operators))
        assert macs == sorted(macs)
        assert macs[0] < macs[-1]


def test_the_parts_of_a_net_are_those_of_its_slots() -> None:
    """For tables: every operator of a net is in exactly one part, with the same shapes."""
    space = OnceForAll(resolutions=(33, 64), widths=(0.5, 1.0))
    rng = np.random.default_rng(2)
    for _ in range(5):
        architecture = space.sample(rng)
        parts = [slot.build(tuple(architecture[gene] for gene in slot.genes)) for slot in space.slots()]
        found = [
            (node.type, graph.shape(node.outputs[0]))
            for graph in parts
            if graph is not None
            for node in graph.operators
        ]
        whole = space.graph(architecture)
        assert found == [(node.type, whole.shape(node.outputs[0])) for node in whole.operators]
