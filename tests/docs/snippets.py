"""The fenced `bash` and `python` blocks of README and docs: found, and taken apart into commands.

    python -m tests.docs.snippets          # lists what the tests do not run, and why

A block runs as it stands, from the root of a clone in miniature (`clone.py`), after the blocks above it on its page.
Two comments, on lines of their own directly above a block, change that; a page that is shown does not show them:

    <!-- not run: REASON -->               the block is only checked: programs, modules, options, files
    <!-- not run (TEXT): REASON -->        so are those of its commands that have TEXT in them
    <!-- run with (TEXT): MORE WORDS -->   those commands get more words when they are tested, to be small
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

from tests.house.source import ROOT

PAGES = ("README.md", "CONTRIBUTING.md", *(f"docs/{path.name}" for path in sorted((ROOT / "docs").glob("*.md"))))
LANGUAGES = ("bash", "python")
_BLOCK = re.compile(r"((?:^<!--[^\n]*-->\n+)*)^```(\w+)[^\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_COMMENT = re.compile(r"<!-- (not run|run with)(?: \((.+?)\))?: (.*?) -->")
_SHORTEST_REASON = 3  # words


@dataclass(frozen=True)
class Rule:
    """What a comment says about a block, or about those of its commands that contain `text`."""

    kind: str
    text: str
    says: str


@dataclass(frozen=True)
class Command:
    """One command of a shell block."""

    words: tuple[str, ...]
    not_run: str | None  # the reason
    more: tuple[str, ...] = ()  # words that only the test adds

    @property
    def line(self) -> str:
        return shlex.join(self.words)


@dataclass(frozen=True)
class Snippet:
    """One fenced block."""

    page: str
    line: int
    language: str
    text: str
    rules: tuple[Rule, ...]

    @property
    def place(self) -> str:
        return f"{self.page}:{self.line}"

    @property
    def not_run(self) -> str | None:
        """The reason why nothing of it runs, or None."""
        reasons = [rule.says for rule in self.rules if rule.kind == "not run" and not rule.text]
        return reasons[0] if reasons else None

    def commands(self) -> list[Command]:
        """The commands of a shell block, without comments, joined where a backslash continues them."""
        found = []
        for line in self.text.replace("\\\n", " ").splitlines():
            for words in _between(shlex.split(line, comments=True)):
                plain = " ".join(words)
                rules = [rule for rule in self.rules if rule.text in plain]
                reasons = [rule.says for rule in rules if rule.kind == "not run"]
                more = [word for rule in rules if rule.kind == "run with" for word in shlex.split(rule.says)]
                found.append(Command(tuple(words), reasons[0] if reasons else None, tuple(more)))
        return found

    def faults(self) -> list[str]:
        """What is wrong with the comments above the block."""
        plain = [" ".join(command.words) for command in self.commands()] if self.language == "bash" else []
        found = []
        for rule in self.rules:
            if rule.kind == "not run" and len(rule.says.split()) < _SHORTEST_REASON:
                found.append(f"{self.place}: say why in more words than {rule.says!r}")
            if rule.text and not any(rule.text in line for line in plain):
                found.append(f"{self.place}: no command of the block contains {rule.text!r}")
        return found


def _between(words: list[str]) -> list[list[str]]:
    """Split a line's words at `&&`."""
    parts: list[list[str]] = [[]]
    for word in words:
        if word == "&&":
            parts.append([])
        else:
            parts[-1].append(word)
    return [part for part in parts if part]


def snippets_of(page: str) -> list[Snippet]:
    """The shell and Python blocks of a page, from top to bottom."""
    text = (ROOT / page).read_text(encoding="utf-8")
    found = []
    for match in _BLOCK.finditer(text):
        comments, language, body = match.groups()
        if language in LANGUAGES:
            rules = tuple(Rule(kind, only or "", says) for kind, only, says in _COMMENT.findall(comments))
            line = text[: match.start(2)].count("\n") + 1
            found.append(Snippet(page, line, language, body, rules))
    return found


def not_run() -> list[tuple[str, str, str]]:
    """Place, what, and reason of all that is not run."""
    found = []
    for snippet in (one for page in PAGES if Path(ROOT / page).exists() for one in snippets_of(page)):
        if snippet.not_run:
            found.append((snippet.place, f"the whole {snippet.language} block", snippet.not_run))
        elif snippet.language == "bash":
            found += [(snippet.place, c.line, c.not_run) for c in snippet.commands() if c.not_run]
    return found


if __name__ == "__main__":
    for place, what, reason in not_run():
        print(f"{place}: {what}\n    {reason}")
