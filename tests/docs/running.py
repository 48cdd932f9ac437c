"""Runs one command or block of a document, in this process, or checks one that is not to run."""

from __future__ import annotations

import contextlib
import io
import re
import runpy
import subprocess
import sys
import warnings
from functools import cache
from pathlib import Path
from unittest import mock

from tests.house.source import ROOT, parse
from tracking_elysium.cli import main as elysium
from tracking_elysium.cli import make_parser

from .snippets import Command, Snippet

FILES = ("cp", "mkdir", "ls", "cd")  # run as they are
WRITES = ("--output", "--json", "--csv", "--out", "--contact-sheet", "--report")  # options that name a file to write
LAUNCHERS = ("accelerate", "torchrun", "vllm", "git", "source", "docker")  # never run here, so each needs a reason


def run_block(snippet: Snippet, names: dict) -> None:
    """Run a block, or check it where it is not to run.

    Args:
        snippet: the block.
        names: what the Python blocks above it on the page have defined; changed.

    Raises:
        AssertionError: it names what is not there, or ended with an error.
    """
    if snippet.language == "python":
        code = compile(snippet.text, snippet.place, "exec")
        if snippet.not_run is None:
            with contextlib.redirect_stdout(io.StringIO()):
                exec(code, names)
        return
    for command in snippet.commands():
        if command.not_run is None:
            run_command(command)
        else:
            check_command(command)


def run_command(command: Command) -> None:
    """Run a command: `elysium` and Python modules in this process, `make` with `-n`, `pip install` by its extras."""
    program, *words = command.words
    if program == "elysium":
        _expect_success(command, lambda: elysium([*words, *command.more]))
    elif program == "python":
        _expect_success(command, lambda: _run_python([*words, *command.more]))
    elif program == "make":
        done = subprocess.run(["make", "-n", *words], cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, f"{command.line}: {done.stderr}"
    elif program == "pip":
        _check_extras(command)
    elif program in FILES:
        subprocess.run(command.words, check=True)
    else:
        raise AssertionError(f"{command.line}: {program} is not run here; say why in a comment, see snippets.py.")
    for option, path in zip(command.words, command.words[1:]):
        if option in WRITES and path != "-" and "--help" not in words:
            assert Path(path).exists(), f"{command.line} wrote no {path}"


def check_command(command: Command) -> None:
    """Check what can be checked without running: the program, the module, its options, files of the repository."""
    program, *words = command.words
    if program == "elysium":
        with contextlib.redirect_stderr(io.StringIO()) as said:
            try:
                make_parser().parse_args(words)
            except SystemExit as stop:
                assert not stop.code, f"{command.line}: {said.getvalue()}"
    elif program in ("python", "python3", "accelerate", "torchrun"):
        if "-m" in words:
            _check_module(command, words[words.index("-m") + 1 :])
        for option, path in zip(words, words[1:]):
            assert option != "--config_file" or (ROOT / path).is_file(), f"{command.line}: no file {path}"
    elif program in ("make", "pip"):
        run_command(command)
    else:
        assert program in LAUNCHERS, f"{command.line}: is {program} a program that a reader has?"


def _expect_success(command: Command, run) -> None:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            code = run()
        except SystemExit as stop:
            code = stop.code
    assert not code, f"{command.line} ended with {code}\n{out.getvalue()[-1000:]}\n{err.getvalue()[-2000:]}"


def _run_python(words: list[str]) -> None:
    is_module = words[0] == "-m"
    name, arguments = (words[1], words[2:]) if is_module else (words[0], words[1:])
    with mock.patch.object(sys, "argv", [name, *arguments]):
        if is_module:
            runpy.run_module(name, run_name="__main__", alter_sys=True)
        else:
            runpy.run_path(name, run_name="__main__")


@cache
def _help_of(module: str) -> str:
    with contextlib.redirect_stdout(io.StringIO()) as said, contextlib.suppress(SystemExit):
        _run_python(["-m", module, "--help"])
    return said.getvalue()


def _check_module(command: Command, words: list[str]) -> None:
    module, *arguments = words
    if module in ("pip", "pytest", "venv"):
        return
    stem = ROOT / module.replace(".", "/")
    assert stem.with_suffix(".py").is_file() or (stem / "__main__.py").is_file(), f"{command.line}: no {module}"
    if module.startswith(("examples.", "tests.")):
        return
    for word in arguments:
        if word.startswith("--"):
            option = word.split("=")[0]
            assert re.search(rf"{re.escape(option)}\b", _help_of(module)), f"{command.line}: {module} has no {option}"


def _check_extras(command: Command) -> None:
    names = {extra.strip() for text in re.findall(r"\[(.*?)\]", command.line) for extra in text.split(",")}
    (call,) = [node.value for node in parse(Path("setup.py")).body if type(node).__name__ == "Expr"][-1:]
    extras = next(keyword.value for keyword in call.keywords if keyword.arg == "extras_require")
    known = {key.value for key in extras.keys}
    assert names <= known, f"{command.line}: setup.py has no extra {sorted(names - known)}"
