"""What the house tests read: the repository's Python files and their imports, by ast."""

import ast
import re
import sys
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SHIPPED = ("processing_elysium", "modeling_elysium", "tracking_elysium")  # in the order in which data flows
FOLDERS = (
    *SHIPPED,
    "train",
    "dataset_scripts",
    "evaluate_metrics",
    "benchmarks",
    "space",
    "examples",
    "fast_boxes",
    "scripts",
    "tests",
)


def python_files(*folders: str) -> list[Path]:
    """Python files below the folders that exist, relative to the root; setup.py too when no folder is named."""
    left_out = {"__pycache__", "fixtures"}  # fixtures hold a checkpoint, whose code files are links
    found = [p for f in folders or FOLDERS for p in sorted((ROOT / f).rglob("*.py")) if not left_out & set(p.parts)]
    return [p.relative_to(ROOT) for p in found + ([] if folders else [ROOT / "setup.py"])]


NOT_CARRIED = {
    "processing_elysium": {"__init__.py", "registration.py"},
    "modeling_elysium": {"__init__.py", "cli.py", "convert_elysium_weights_to_hf.py"},
    "tracking_elysium": {"__init__.py", "lmms_eval_plugin.py", "rerun_export.py"},
}


def is_carried(path: Path) -> bool:
    """Whether a saved checkpoint folder may carry the file: flat, and no registration or conversion."""
    return path.parts[0] in SHIPPED and len(path.parts) == 2 and path.name not in NOT_CARRIED[path.parts[0]]


def carried_files() -> list[Path]:
    return [p for p in python_files(*SHIPPED) if is_carried(p)]


def closure(path: Path) -> set[Path]:
    """A carried file and the siblings that it needs, as the Hub's loader finds them."""
    found, waiting = set(), [path]
    while waiting:
        path = waiting.pop()
        if path not in found:
            found.add(path)
            waiting += [path.with_name(f"{module}.py") for _, module, level in imports(path) if level]
    return found


@cache
def parse(path: Path) -> ast.Module:
    return ast.parse((ROOT / path).read_text(encoding="utf-8"), filename=str(path))


def imports(path: Path) -> list[tuple[ast.stmt, str, int]]:
    """Every import of a file, at any depth, as (node, module, level); `from . import a` has an empty module."""
    found = []
    for node in ast.walk(parse(path)):
        if isinstance(node, ast.Import):
            found += [(node, alias.name, 0) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            found.append((node, node.module or "", node.level))
    return found


def guarded_nodes(path: Path) -> set[ast.stmt]:
    """Imports inside a `try` or an `if`, which the Hub's loader does not count as required."""
    blocks = [n for n in ast.walk(parse(path)) if isinstance(n, ast.Try | ast.If)]
    return {inner for block in blocks for inner in ast.walk(block) if isinstance(inner, ast.Import | ast.ImportFrom)}


def is_third_party(module: str) -> bool:
    top = module.split(".")[0]
    return top not in sys.stdlib_module_names and top not in (*FOLDERS, "setup", "elysium")


def declared_requirements() -> set[str]:
    """Distribution names in the upper-case lists and strings of setup.py, normalized."""
    values = [n.value for n in parse(Path("setup.py")).body if isinstance(n, ast.Assign) and n.targets[0].id.isupper()]
    strings = {
        n.value for v in values for n in ast.walk(v) if isinstance(n, ast.Constant) and isinstance(n.value, str)
    }
    names = (re.match(r"[A-Za-z][A-Za-z0-9._-]*(?=[][<>=])", s) for s in strings)
    return {m.group().lower().replace("_", "-") for m in names if m}
