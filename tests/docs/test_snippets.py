"""Every command and snippet of README and docs runs, or says why it does not and is checked as far as that goes."""

import os
import shutil

import pytest

from .clone import make_clone
from .running import check_command, run_block, run_command
from .snippets import PAGES, Command, Snippet, not_run, snippets_of

SNIPPETS = {page: snippets_of(page) for page in PAGES}
PAGES_WITH_SNIPPETS = [page for page in PAGES if SNIPPETS[page]]


@pytest.fixture(scope="module")
def made_clone(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made") / "clone"
    folder.mkdir()
    make_clone(folder)
    return folder


@pytest.fixture
def clone(made_clone, tmp_path):
    """A copy for each page: what the commands of one page write is not there on the next."""
    return shutil.copytree(made_clone, tmp_path / "clone", symlinks=True)


@pytest.mark.parametrize("page", PAGES_WITH_SNIPPETS)
def test_the_page_runs(page, clone, monkeypatch, tmp_path):
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(clone)
    names = {"__name__": "__main__"}
    for snippet in SNIPPETS[page]:
        try:
            run_block(snippet, names)
        except Exception as error:
            raise AssertionError(f"{snippet.place} does not run as it stands: {error}") from error


def test_comments_have_reasons_and_name_commands():
    faults = [fault for page in PAGES for snippet in SNIPPETS[page] for fault in snippet.faults()]
    assert not faults, "\n".join(faults)


def test_most_of_it_runs(record_property):
    left_out = not_run()
    record_property("not run", "\n".join(f"{place}: {what} ({reason})" for place, what, reason in left_out))
    commands = [c for page in PAGES for s in SNIPPETS[page] if s.language == "bash" for c in s.commands()]
    assert sum(c.not_run is None for c in commands) > len(commands) / 2


def snippet(text, *rules):
    from .snippets import Rule

    return Snippet("page.md", 1, "bash", text, tuple(Rule(*rule) for rule in rules))


def test_commands_are_taken_apart():
    block = snippet(
        "make track VIDEO=a.mp4 && elysium --help  # a comment\npython -m a.b --x \\\n    --y 2\n",
        ("not run", "a.b", "needs a GPU here"),
        ("run with", "make", "-s"),
    )
    assert [(c.words, c.not_run, c.more) for c in block.commands()] == [
        (("make", "track", "VIDEO=a.mp4"), None, ("-s",)),
        (("elysium", "--help"), None, ()),
        (("python", "-m", "a.b", "--x", "--y", "2"), "needs a GPU here", ()),
    ]
    assert not block.faults()


@pytest.mark.parametrize(
    "text, rule, fault",
    [
        ("make test\n", ("not run", "", "slow"), "say why in more words than 'slow'"),
        ("make test\n", ("not run", "make tests", "takes too long"), "no command of the block contains 'make tests'"),
    ],
)
def test_comments_that_say_nothing_are_found(text, rule, fault):
    assert fault in snippet(text, rule).faults()[0]


@pytest.mark.parametrize(
    "words, message",
    [
        (["elysium", "track", "missing.mp4", "--box", "1,2,3,4"], "missing.mp4"),
        (["python", "-m", "train.sft", "no_recipe"], "no_recipe"),
        (["make", "no-such-target"], "no-such-target"),
        (["pip", "install", ".[no_extra]"], "no extra"),
        (["frobnicate", "--now"], "say why"),
    ],
)
def test_a_command_that_fails_is_found(words, message):
    with pytest.raises(AssertionError, match=message):
        run_command(Command(tuple(words), None))


@pytest.mark.parametrize(
    "words, message",
    [
        (["elysium", "track", "a.mp4", "--boxes", "1,2,3,4"], "--boxes"),
        (["python", "-m", "train.sft", "tiny", "--outputs", "x"], "has no --outputs"),
        (["python", "-m", "train.no_module"], "no train.no_module"),
        (["accelerate", "launch", "--config_file", "train/none.yaml", "-m", "train.sft", "tiny"], "no file"),
        (["frobnicate", "--now"], "a program that a reader has"),
    ],
)
def test_a_command_that_cannot_work_is_found_without_running_it(words, message):
    with pytest.raises(AssertionError, match=message):
        check_command(Command(tuple(words), "not run"))


def test_nothing_is_written_into_the_repository(clone):
    assert os.path.realpath(clone) == str(clone)
    assert (clone / "elysium").is_symlink() and not (clone / "examples").is_symlink()
