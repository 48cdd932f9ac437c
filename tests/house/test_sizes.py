"""Law 7 and the house's plan: short files, short functions, no print and no hidden state in the library."""

import ast
import re

from .source import ROOT, SHIPPED, parse, python_files

MAX_FILE_LINES = 450
MAX_FUNCTION_LINES = 60
FUNCTIONS = ast.FunctionDef | ast.AsyncFunctionDef


def code_lines(function: FUNCTIONS) -> int:
    """Lines from `def` to the end, the docstring not counted."""
    first = function.body[0]
    has_docstring = (
        isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str)
    )
    docstring = first.end_lineno - first.lineno + 1 if has_docstring else 0
    return function.end_lineno - function.lineno + 1 - docstring


def test_file_and_function_length():
    offenders = []
    for path in python_files():
        lines = len((ROOT / path).read_text(encoding="utf-8").splitlines())
        if lines > MAX_FILE_LINES:
            offenders.append(f"{path} has {lines} lines: does it still have one job?")
        for node in ast.walk(parse(path)):
            if isinstance(node, FUNCTIONS) and code_lines(node) > MAX_FUNCTION_LINES:
                offenders.append(f"{path}:{node.lineno} {node.name} has {code_lines(node)} lines")
    assert not offenders, offenders


def test_library_does_not_print():
    offenders = []
    for path in python_files(*SHIPPED, "evaluate_metrics"):
        if "cli" not in path.parts and path.name != "app.py" and "runners" not in path.parts:
            calls = [n for n in ast.walk(parse(path)) if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)]
            offenders += [f"{path}:{n.lineno}" for n in calls if n.func.id == "print"]
    assert not offenders, f"warn, raise or log instead of printing: {offenders}"


def code_outside_tests():
    return [path for path in python_files() if path.parts[0] != "tests"]


def test_no_global_state():
    found = [
        f"{path}:{n.lineno}"
        for path in code_outside_tests()
        for n in ast.walk(parse(path))
        if isinstance(n, ast.Global)
    ]
    assert not found, f"state is passed, never global: {found}"


def test_no_randomness_without_a_seed():
    # np.random.default_rng() without a seed, and the process-wide generators, make runs that nobody can repeat.
    offenders = []
    for path in code_outside_tests():
        for node in ast.walk(parse(path)):
            if not isinstance(node, ast.Call):
                continue
            name = ast.unparse(node.func)
            if re.fullmatch(r"((np|numpy)\.)?random\.\w+", name):
                if not name.endswith((".default_rng", ".Random", ".Generator", ".SeedSequence")):
                    offenders.append(f"{path}:{node.lineno}: {name} draws from a process-wide generator")
                elif not node.args and not node.keywords:
                    offenders.append(f"{path}:{node.lineno}: {name}() needs a seed")
    assert not offenders, offenders
