"""Which files are the site's: a hook of mkdocs (`hooks:` in mkdocs.yml).

Pages are README, CONTRIBUTING, CHANGELOG and docs; with them goes every file that a page links to, at its
place in the repository. A link that works on GitHub therefore works on the site. Pages that `nav` does not
name come last, under "More".
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

__all__ = ["on_config", "on_files", "pages"]

ROOT = Path(__file__).resolve().parents[1]
TOP = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md")
_LINK = re.compile(r"\]\(([^)\s#]+)[^)\s]*\)")


def pages() -> list[str]:
    """Paths of all pages, relative to the root of the repository."""
    found = [path.relative_to(ROOT).as_posix() for path in sorted((ROOT / "docs").rglob("*.md"))]
    return [*(name for name in TOP if (ROOT / name).is_file()), *found]


def linked_files() -> list[str]:
    """Files that pages link to and that are no pages: pictures, reports of benchmarks, code."""
    found = set()
    for name in pages():
        for target in _LINK.findall((ROOT / name).read_text(encoding="utf-8")):
            path = (ROOT / name).parent / target
            if "://" not in target and path.is_file():
                found.add(path.resolve().relative_to(ROOT).as_posix())
    return sorted(found - set(pages()))


def on_config(config: Any) -> Any:
    """Put pages that the navigation does not name at its end."""
    named = _names(config.nav)
    rest = [name for name in pages() if name not in named]
    if rest:
        config.nav = [*config.nav, {"More": rest}]
    return config


def on_files(files: Files, config: Any) -> Files:
    """Take the repository's files in place of those of `docs_dir` alone; the theme's stay."""
    theme = [file for file in files if not file.is_documentation_page() and file.src_dir != config.docs_dir]
    ours = [
        File.generated(config, name, abs_src_path=str(ROOT / name))
        for name in dict.fromkeys([*pages(), *linked_files()])
    ]
    return Files([*theme, *ours])


def _names(entry: Any) -> set[str]:
    if isinstance(entry, str):
        return {entry}
    inner = entry.values() if isinstance(entry, dict) else entry or ()
    return {name for one in inner for name in _names(one)}
