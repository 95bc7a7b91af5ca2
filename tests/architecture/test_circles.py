"""No modules import each other in a circle, lazily or for types either: each can be read without those above it."""

from collections.abc import Iterator, Mapping

import grimp

# A simulated world and those in it know each other's types.
EXCEPT = "fissile.simulation."


def circles(imports: Mapping[str, set[str]]) -> Iterator[list[str]]:
    """Sets of modules that reach each other (Tarjan, 1972)."""
    number: dict[str, int] = {}
    lowest: dict[str, int] = {}
    path: list[str] = []

    def visit(module: str) -> Iterator[list[str]]:
        number[module] = lowest[module] = len(number)
        path.append(module)
        for other in sorted(imports[module]):
            if other not in number:
                yield from visit(other)
                lowest[module] = min(lowest[module], lowest[other])
            elif other in path:
                lowest[module] = min(lowest[module], number[other])
        if lowest[module] == number[module]:
            found = path[path.index(module) :]
            del path[path.index(module) :]
            if len(found) > 1:
                yield sorted(found)

    for module in sorted(imports):
        if module not in number:
            yield from visit(module)


def test_circles_are_found():
    assert list(circles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}})) == [["a", "b", "c"]]
    assert list(circles({"a": {"b"}, "b": {"c"}, "c": set(), "d": {"a", "c"}})) == []


def test_no_modules_import_each_other_in_a_circle():
    graph = grimp.build_graph("fissile", exclude_type_checking_imports=False)
    imports = {one: graph.find_modules_directly_imported_by(one) - {one} for one in graph.modules}
    assert [found for found in circles(imports) if not found[0].startswith(EXCEPT)] == []
