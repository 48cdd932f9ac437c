"""What the documents name exists: links, paths, make targets, options of the command line."""

import re
import shlex

import pytest

from tracking_elysium.cli import make_parser

from .source import FOLDERS, ROOT

DOCUMENTS = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")])
MAX_README_LINES = 150


def text_of(path):
    return path.read_text(encoding="utf-8")


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda p: p.name)
def test_relative_links_resolve(path):
    for target in re.findall(r"\]\(([^)\s]+)\)", text_of(path)):
        if not target.startswith(("http://", "https://", "#", "mailto:")):
            assert (path.parent / target.split("#")[0]).exists(), f"{path.name} links to {target}"


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda p: p.name)
def test_named_paths_exist(path):
    folders = "|".join((*FOLDERS, "docs", "elysium"))
    for name in re.findall(rf"`((?:{folders})/[\w./-]*\w)/?`", text_of(path)):
        assert (ROOT / name).exists(), f"{path.name} names {name}"


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda p: p.name)
def test_make_targets_exist(path):
    targets = set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    for name in re.findall(r"(?:`|^\s*)make ([a-z][a-z-]*)", text_of(path), re.MULTILINE):
        assert name in targets, f"{path.name} says make {name}"


def test_readme_is_one_page():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= MAX_README_LINES


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda p: p.name)
def test_commands_can_be_parsed(path):
    parser = make_parser()
    for line in re.findall(r"^elysium .*$", re.sub(r"\\\n\s*", "", text_of(path)), re.MULTILINE):
        words = shlex.split(line, comments=True)[1:]
        if "|" not in words and words[-1] not in ("--help", "--version"):
            assert parser.parse_args(words).command in ("track", "describe", "ask", "convert", "demo"), line


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda p: p.name)
def test_python_blocks_compile(path):
    for block in re.findall(r"```python\n(.*?)```", text_of(path), re.DOTALL):
        compile(block, path.name, "exec")


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda p: p.name)
def test_modules_run_by_name_exist(path):
    for module in re.findall(
        r"python -m ((?:train|benchmarks|evaluate_metrics|dataset_scripts|space)[\w.]*)", text_of(path)
    ):
        stem = ROOT / module.replace(".", "/")
        assert stem.with_suffix(".py").exists() or (stem / "__main__.py").exists(), f"{path.name} runs {module}"
