"""Every error message of the packages, read from their source, as the second part of docs/troubleshooting.md.

python -m scripts.error_messages            # writes the list anew; a test fails where it is out of date
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Message", "listed", "main", "messages", "messages_of"]

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "troubleshooting.md"
PACKAGES = ("processing_elysium", "modeling_elysium", "tracking_elysium")
BEGIN = "<!-- written by python -m scripts.error_messages; do not edit below -->"
GAP = "…"  # what a message fills in
_WARNINGS = {"warn", "warning_once"}
_SHORTEST = 12  # letters of a message that somebody would search for


@dataclass(frozen=True, order=True)
class Message:
    """A message of the source.

    Attributes:
        file: relative to the root.
        kind: the exception, or `"warning"`.
        text: with `GAP` for every part that is filled in.
    """

    file: str
    kind: str
    text: str


def messages() -> list[Message]:
    """Collect the messages of all packages, each once per file."""
    found: dict[Message, None] = {}
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            name = path.relative_to(ROOT).as_posix()
            found.update(dict.fromkeys(messages_of(path.read_text(encoding="utf-8"), name)))
    return list(found)


def messages_of(source: str, file: str) -> Iterator[Message]:
    """Yield the messages of one file in the order of its lines: of `raise NAME(...)` and of warnings.

    A message that has a name is the text assigned to that name in the same function; what cannot be read is left out.
    """
    tree = ast.parse(source)
    for scope in (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)):
        assigned = _assigned(scope)
        for node in _own_nodes(scope):
            for kind, argument in _raised(node):
                text = _text(argument, assigned)
                if sum(letter.isalpha() for letter in text) >= _SHORTEST:
                    yield Message(file, kind, text)


def _own_nodes(scope: ast.AST) -> Iterator[ast.AST]:
    """Yield the nodes of a function, those of functions inside it excepted."""
    waiting = list(ast.iter_child_nodes(scope))
    while waiting:
        node = waiting.pop(0)
        yield node
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            waiting[:0] = ast.iter_child_nodes(node)


def _raised(node: ast.AST) -> Iterator[tuple[str, ast.expr]]:
    """Yield (kind, first argument) where a node raises or warns."""
    if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call) and node.exc.args:
        yield ast.unparse(node.exc.func).rpartition(".")[2], node.exc.args[-1 if _is_os_error(node.exc) else 0]
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.args:
        if node.func.attr in _WARNINGS:
            yield "warning", node.args[0]
        if node.func.attr == "break_off":  # warns, and ends a video
            yield from (("warning", argument) for argument in node.args[1:])


def _is_os_error(call: ast.Call) -> bool:
    """Whether a call is `OSError(number, text)`."""
    return ast.unparse(call.func).rpartition(".")[2] == "OSError" and len(call.args) > 1


def _assigned(scope: ast.AST) -> dict[str, ast.expr]:
    """Name -> text that is assigned to it in a function."""
    return {
        target.id: node.value
        for node in ast.walk(scope)
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name) and isinstance(node.value, ast.Constant | ast.JoinedStr)
    }


def _text(node: ast.expr, assigned: dict[str, ast.expr]) -> str:
    """Read a message; parts that are filled in become `GAP`."""
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else GAP
    if isinstance(node, ast.JoinedStr):
        return "".join(_text(part, assigned) for part in node.values)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return _text(node.left, assigned) + _text(node.right, assigned)
    if isinstance(node, ast.FormattedValue):
        return GAP
    if isinstance(node, ast.Name) and node.id in assigned:
        return _text(assigned[node.id], {})
    return GAP


def listed(found: list[Message]) -> str:
    """Write messages as Markdown, a list per file."""
    lines: list[str] = []
    for file in dict.fromkeys(message.file for message in found):
        lines += ["", f"### `{file}`", ""]
        for message in found:
            if message.file == file:
                text = " ".join(message.text.split())
                fence = "``" if "`" in text else "`"
                space = " " if fence == "``" else ""
                lines.append(f"- {message.kind}: {fence}{space}{text}{space}{fence}")
    return "\n".join(lines) + "\n"


def main() -> int:
    """Write the list into the page."""
    head = PAGE.read_text(encoding="utf-8").partition(BEGIN)[0]
    PAGE.write_text(f"{head}{BEGIN}\n{listed(messages())}", encoding="utf-8")
    print(f"{len(messages())} messages in {PAGE.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
