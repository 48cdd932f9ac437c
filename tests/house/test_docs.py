"""What the documents name exists: links, paths, make targets, options of the command line."""

import re

import pytest

from .source import FOLDERS, ROOT

DOCUMENTS = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")])
MAX_README_LINES = 150


def prose_and_code(path):
    return path.read_text(encoding="utf-8")


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda p: p.name)
def test_relative_links_resolve(path):
    for target in re.findall(r"\]\(([^)\s]+)\)", prose_and_code(path)):
        if not target.startswith(("http://", "https://", "#", "mailto:")):
            assert (path.parent / target.split("#")[0]).exists(), f"{path.name} links to {target}"


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda p: p.name)
def test_named_paths_exist(path):
    folders = "|".join((*FOLDERS, "docs", "elysium"))
    for name in re.findall(rf"`((?:{folders})/[\w./-]*\w)/?`", prose_and_code(path)):
        assert (ROOT / name).exists(), f"{path.name} names {name}"


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda p: p.name)
def test_make_targets_exist(path):
    targets = set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    for name in re.findall(r"(?:`|^\s*)make ([a-z][a-z-]*)", prose_and_code(path), re.MULTILINE):
        assert name in targets, f"{path.name} says make {name}"


def test_readme_is_one_page():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= MAX_README_LINES
