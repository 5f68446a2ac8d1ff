"""The tree of a model's lineage, line by line."""

from __future__ import annotations

from edgeprof.lineage import Branch, Descent, Lineage, branches


def edge(child: str, parent: str, at_s: float = 0.0, transform: str = "fp16") -> Descent:
    return Descent(
        child_digest=child,
        child_name=child,
        parent_digest=parent,
        transform=transform,
        tool="t",
        tool_version="1",
        created_at_s=at_s,
    )


def drawn(lines: tuple[Branch, ...]) -> list[str]:
    return ["  " * line.depth + line.digest + (" again" if line.is_known else "") for line in lines]


def test_a_model_alone_is_a_tree_of_one() -> None:
    assert drawn(branches(Lineage(digest="a", ancestors=(), descendants=()))) == ["a"]


def test_the_tree_goes_from_the_first_ancestor_to_the_last_descendant_the_oldest_first() -> None:
    lineage = Lineage(
        digest="c",
        ancestors=(edge("c", "b"), edge("b", "a")),
        descendants=(edge("e", "c", 2.0), edge("d", "c", 1.0), edge("f", "d")),
    )

    lines = branches(lineage)

    assert drawn(lines) == ["a", "  b", "    c", "      d", "        f", "      e"]
    assert [line.by for line in lines][:2] == [None, edge("b", "a")]


def test_a_model_of_two_parents_stands_below_both_and_what_comes_of_it_below_one() -> None:
    lineage = Lineage(digest="c", ancestors=(edge("c", "a"), edge("c", "b")), descendants=(edge("d", "c"),))

    assert drawn(branches(lineage)) == ["a", "  c", "    d", "b", "  c again"]


def test_a_circle_begins_with_the_model_that_was_asked_for_and_ends_there() -> None:
    circle = (edge("b", "a"), edge("a", "b"))

    assert drawn(branches(Lineage(digest="b", ancestors=circle, descendants=circle))) == ["b", "  a", "    b again"]


def test_a_chain_of_ten_thousand_is_no_harder() -> None:
    chain = tuple(edge(str(k + 1), str(k)) for k in range(10_000))

    lines = branches(Lineage(digest="0", ancestors=(), descendants=chain))

    assert lines[-1].depth == 10_000
