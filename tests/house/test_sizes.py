"""Law 7 and the house's plan: short files, short functions, no print and no hidden state in the library."""

import ast
import re

import pytest

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


@pytest.mark.parametrize("path", python_files(), ids=str)
def test_file_and_function_length(path):
    lines = len((ROOT / path).read_text(encoding="utf-8").splitlines())
    assert lines <= MAX_FILE_LINES, f"{path} has {lines} lines: does it still have one job?"
    for node in ast.walk(parse(path)):
        if isinstance(node, FUNCTIONS):
            length = code_lines(node)
            assert length <= MAX_FUNCTION_LINES, f"{path}:{node.lineno} {node.name} has {length} lines"


def library_files():
    files = python_files(*SHIPPED, "evaluate_metrics")
    return [p for p in files if not p.name.startswith("cli") and p.name != "app.py" and "runners" not in p.parts]


@pytest.mark.parametrize("path", library_files(), ids=str)
def test_library_does_not_print(path):
    calls = [n for n in ast.walk(parse(path)) if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)]
    assert not [f"{path}:{n.lineno}" for n in calls if n.func.id == "print"], "warn, raise or log instead of printing"


@pytest.mark.parametrize("path", [p for p in python_files() if p.parts[0] != "tests"], ids=str)
def test_no_global_state(path):
    found = [f"{path}:{n.lineno}" for n in ast.walk(parse(path)) if isinstance(n, ast.Global)]
    assert not found, "state is passed, never global"


@pytest.mark.parametrize("path", [p for p in python_files() if p.parts[0] != "tests"], ids=str)
def test_no_randomness_without_a_seed(path):
    # np.random.default_rng() without a seed, and the process-wide generators, make runs that nobody can repeat.
    for node in ast.walk(parse(path)):
        if not isinstance(node, ast.Call):
            continue
        name = ast.unparse(node.func)
        if not re.fullmatch(r"((np|numpy)\.)?random\.\w+", name):
            continue
        seeded = name.endswith((".default_rng", ".Random", ".Generator", ".SeedSequence"))
        assert seeded, f"{path}:{node.lineno}: {name} draws from a process-wide generator"
        assert node.args or node.keywords, f"{path}:{node.lineno}: {name}() needs a seed"
