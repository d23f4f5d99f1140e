"""Report the size of iavlib: modules, lines of code and import cycles.

A line of code holds at least one token of a statement: blank lines, comments and docstrings do
not count. Imports inside functions do not count for cycles.

Usage: python tools/size.py [--packages]
"""

from __future__ import annotations

import ast
import io
import sys
import tokenize
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

PACKAGE = Path(__file__).parent.parent / "iavlib"
#: Tokens that do not make a line a line of code.
LAYOUT = {
    tokenize.COMMENT,
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENDMARKER,
}


@dataclass(frozen=True)
class Size:
    """Size of a package: lines of code per module, and one import cycle or none."""

    lines: dict[str, int]
    cycle: list[str]

    def __str__(self) -> str:
        cycle = " -> ".join(self.cycle) or "none"
        total = f"{len(self.lines)} modules, {sum(self.lines.values()):,} lines of code"
        return f"{total}, import cycles: {cycle}"


def count_lines(source: str) -> int:
    """Count the lines of code of a module."""
    lines = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in LAYOUT:
            lines.update(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(ast.parse(source)):
        documented = isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
        if documented and ast.get_docstring(node, clean=False) is not None:
            text = node.body[0]
            lines.difference_update(range(text.lineno, text.end_lineno + 1))
    return len(lines)


def imported(source: str) -> set[str]:
    """List the names that a module imports when it is loaded."""
    names = set()
    for statement in ast.parse(source).body:
        if isinstance(statement, ast.Import):
            names.update(alias.name for alias in statement.names)
        elif isinstance(statement, ast.ImportFrom) and statement.module:
            names.add(statement.module)
            names.update(f"{statement.module}.{alias.name}" for alias in statement.names)
    return names


def measure(package: Path = PACKAGE) -> Size:
    """Measure a package in the folder `package`."""
    sources = {}
    for path in sorted(package.rglob("*.py")):
        parts = path.relative_to(package.parent).with_suffix("").parts
        sources[".".join(parts).removesuffix(".__init__")] = path.read_text(encoding="utf-8")
    graph = {name: imported(text) & sources.keys() - {name} for name, text in sources.items()}
    try:
        TopologicalSorter(graph).prepare()
        cycle = []
    except CycleError as error:
        cycle = error.args[1]
    return Size({name: count_lines(text) for name, text in sources.items()}, cycle)


if __name__ == "__main__":
    size = measure()
    if "--packages" in sys.argv:
        packages: dict[str, list[int]] = {}
        for name, n in size.lines.items():
            packages.setdefault(".".join(name.split(".")[:2]), []).append(n)
        for name, counts in sorted(packages.items(), key=lambda item: -sum(item[1])):
            print(f"{name:<26}{len(counts):>4} modules {sum(counts):>7,} lines of code")
    print(size)
