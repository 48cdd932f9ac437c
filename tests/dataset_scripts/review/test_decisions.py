"""The log survives crashes and crowds; it decides what becomes of rows; agreement is that of the textbooks."""

import multiprocessing
import os
from collections import Counter

import pytest

from dataset_scripts.review.agreement import agreement_of, cohen_kappa, fleiss_kappa
from dataset_scripts.review.decisions import Decision, append_decision, apply_decisions, fingerprint, read_log
from dataset_scripts.review.session import ReviewSession

from ..tiny_build import trajectories_of

ROWS = [row for index in range(3) for row in trajectories_of(index, "test" if index else "train")[1]]


def said(row, verdict="accept", reviewer="ann", phrase=None, time=0.0):
    return Decision(
        id=row.id, fingerprint=fingerprint(row), verdict=verdict, phrase=phrase, reviewer=reviewer, time=time
    )


def write_many(log, reviewer, count):
    for number in range(count):
        append_decision(log, said(ROWS[number % len(ROWS)], reviewer=reviewer, time=number))


def test_several_processes_append_whole_lines(tmp_path):
    log = tmp_path / "log.jsonl"
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=write_many, args=(log, name, 50)) for name in ("ann", "ben", "cy")]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert Counter(d.reviewer for d in read_log(log)) == {"ann": 50, "ben": 50, "cy": 50}


@pytest.mark.parametrize("cut", [1, 20, 60])
def test_a_line_that_a_crash_cut_is_no_decision(cut, tmp_path):
    log = tmp_path / "log.jsonl"
    append_decision(log, said(ROWS[0]))
    append_decision(log, said(ROWS[1]))
    with open(log, "r+b") as file:
        file.truncate(os.path.getsize(log) - cut)
    append_decision(log, said(ROWS[2], "reject"))
    # the newline alone may be missing: then the line is whole
    assert [d.id for d in read_log(log)] == [ROWS[0].id, *([ROWS[1].id] if cut == 1 else []), ROWS[2].id]


@pytest.mark.parametrize(
    ("line", "words"),
    [("nonsense", "line 1"), ('{"id": "a"}', "line 1.*keys"), ('{"verdict": "maybe"}', "keys")],
)
def test_a_log_of_something_else_is_an_error(line, words, tmp_path):
    (tmp_path / "log").write_text(line + "\n")
    with pytest.raises(ValueError, match=words):
        read_log(tmp_path / "log")
    assert read_log(tmp_path / "none") == []


@pytest.mark.parametrize(
    ("made", "kept", "what"),
    [
        ([], True, "unreviewed"),
        ([("ann", "accept", None)], True, "accepted"),
        ([("ann", "reject", None)], False, "rejected"),
        ([("ann", "reject", None), ("ben", "accept", None)], False, "rejected"),  # a tie
        ([("ann", "reject", None), ("ben", "accept", None), ("cy", "edit", "it")], "it", "edited"),
        ([("ann", "reject", None), ("ann", "accept", None)], True, "accepted"),  # changed her mind
        ([("ann", "edit", "a"), ("ben", "edit", "b"), ("cy", "edit", "a")], "a", "edited"),
        ([("ann", "edit", "a"), ("ben", "edit", "b")], "b", "edited"),
    ],
)
def test_the_majority_decides(made, kept, what):
    row = ROWS[0]
    decisions = [said(row, verdict, name, phrase, time) for time, (name, verdict, phrase) in enumerate(made)]
    ((result, done),) = apply_decisions([row], decisions)
    assert done == what and (result is not None) == bool(kept)
    if isinstance(kept, str):
        assert result.phrase == kept
    if made and result is not None:
        assert sum(result.provenance["review"].values()) == len({name for name, *_ in made})


def test_required_splits_and_changed_rows():
    train, test = ROWS[0], ROWS[-1]
    done = dict(zip("ab", apply_decisions([train, test], [], required=("test",)), strict=True))
    assert done["a"] == (train, "unreviewed") and done["b"] == (None, "unreviewed, dropped")
    other = Decision(id=test.id, fingerprint="0", verdict="accept", reviewer="ann", time=0)
    ((result, what),) = apply_decisions([test], [other], required=("test",))
    assert result is None and what == "unreviewed, dropped, stale decisions"


def test_kappas_of_the_textbooks():
    # Cohen: 50 proposals, 20 yes-yes, 5 yes-no, 10 no-yes, 15 no-no
    first = ["y"] * 25 + ["n"] * 25
    second = ["y"] * 20 + ["n"] * 5 + ["y"] * 10 + ["n"] * 15
    assert cohen_kappa(first, second) == pytest.approx(0.4)
    # Fleiss: fourteen raters, ten subjects, five categories
    table = [
        (0, 0, 0, 0, 14), (0, 2, 6, 4, 2), (0, 0, 3, 5, 6), (0, 3, 9, 2, 0), (2, 2, 8, 1, 1),
        (7, 7, 0, 0, 0), (3, 2, 6, 3, 0), (2, 5, 3, 2, 2), (6, 5, 2, 1, 0), (0, 2, 2, 3, 7),
    ]  # fmt: skip
    assert fleiss_kappa(table) == pytest.approx(0.210, abs=5e-4)
    assert fleiss_kappa([*table, (1, 0, 0, 0, 0)]) == fleiss_kappa(table)  # one rater says nothing
    assert cohen_kappa([], []) is None and cohen_kappa(["y"], ["y"]) is None and fleiss_kappa([(3, 0)]) is None
    with pytest.raises(ValueError, match="1 and 0"):
        cohen_kappa(["y"], [])


def test_agreement_of_a_log():
    verdicts = {"ann": ["accept", "accept", "reject"], "ben": ["accept", "reject", "reject"], "cy": ["accept"]}
    made = [said(ROWS[i], v, who) for who, given in verdicts.items() for i, v in enumerate(given)]
    found = agreement_of([said(ROWS[0], "reject", "ann"), *made])
    assert found.items == 3 and [pair[:3] for pair in found.pairs] == [
        ("ann", "ben", 3), ("ann", "cy", 1), ("ben", "cy", 1)
    ]  # fmt: skip
    # observed 2/3; chance 2/3 * 1/3 + 1/3 * 2/3 = 4/9
    assert found.pairs[0][3] == pytest.approx((2 / 3 - 4 / 9) / (5 / 9))
    # observed (1 + 0 + 1) / 3, verdicts 4 and 3 of 7
    chance = (4 / 7) ** 2 + (3 / 7) ** 2
    assert found.fleiss == pytest.approx((2 / 3 - chance) / (1 - chance))
    assert "Cohen, 3 items" in found.lines()[0] and "Fleiss" in found.lines()[-1]
    assert agreement_of([]).lines() == ["no trajectory has two reviewers yet"]


def test_a_session_goes_on_where_the_log_ends(tmp_path):
    log = tmp_path / "log.jsonl"
    session = ReviewSession(ROWS, log, "ann", seed=1, clock=lambda: 5.0)
    order = [row.id for row in session.rows]
    assert sorted(order) == sorted(row.id for row in ROWS) and order != [row.id for row in ROWS]
    session.decide("accept")
    session.decide("accept", "  a   nicer name ")
    session.decide("reject", "never mind")
    assert [(d.id, d.verdict, d.phrase) for d in read_log(log)] == [
        (order[0], "accept", None), (order[1], "edit", "a nicer name"), (order[2], "reject", None)
    ]  # fmt: skip
    again = ReviewSession(ROWS, log, "ann", seed=1)
    assert again.current.id == order[3]
    again.back()
    again.decide("accept")
    assert again.current.id == order[3] and again.decided()[order[2]].verdict == "accept"
    assert ReviewSession(ROWS, log, "ben", seed=1).current.id == order[0]
    assert again.summary()[0] == f"3 of {len(ROWS)} decided (2 accept, 0 reject, 1 edit)"
    while again.current is not None:
        again.decide("reject")
    assert len(again.decided()) == len(ROWS)
    with pytest.raises(ValueError, match="every trajectory is decided"):
        again.decide("accept")


@pytest.mark.parametrize(
    ("rows", "reviewer", "words"),
    [([], "ann", "no trajectory"), ([ROWS[0], ROWS[0]], "ann", "two trajectories"), (ROWS, " ", "--reviewer")],
)
def test_sessions_refuse_what_cannot_be_reviewed(rows, reviewer, words, tmp_path):
    with pytest.raises(ValueError, match=words):
        ReviewSession(rows, tmp_path / "log", reviewer)


@pytest.mark.parametrize(("verdict", "phrase", "words"), [("edit", "", "other words"), ("keep", "", "one of")])
def test_sessions_refuse_verdicts_that_say_nothing(verdict, phrase, words, tmp_path):
    session = ReviewSession(ROWS, tmp_path / "log", "ann")
    with pytest.raises(ValueError, match=words):
        session.decide(verdict, phrase)
    assert read_log(tmp_path / "log") == []
