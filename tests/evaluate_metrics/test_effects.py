"""What options change: runs of the command, differences in pairs, a section of the page."""

import dataclasses

import pytest

from evaluate_metrics.readers.tasks import TASKS, load_items
from evaluate_metrics.runners import command, effects
from evaluate_metrics.runners.effects import STUDIES, Change, Study, effect_rows, main
from evaluate_metrics.runners.results_page import with_section
from evaluate_metrics.runners.scoring import TrackerScores
from tracking_elysium.options import TrackingOptions, options_given

from . import miniatures
from .miniature_runs import ListPipe

STUDY = Study("x", "val", "X", "", (), (Change("a", "first", ()), Change("b", "second", ()), Change("c", "third", ())))


def scores(name, values, gaps=0, missing=()):
    items = {str(number): None if value is None else {"auc": value} for number, value in enumerate(values)}
    counted = [value for value in values if value is not None]
    mean = {"auc": sum(counted) / len(counted), "precision": 0.5}
    counts = {"frames": 9, "without box": 0, "said absent": gaps, "unreadable": 1}
    return TrackerScores(name, mean, {}, items, len(items), list(missing), [], counts)


def test_differences_are_in_pairs_and_from_the_default():
    found = [
        scores("b", [0.6, 0.5, None], gaps=2),
        scores("default", [0.5, 0.5, None]),
        scores("a", [0.5, 0.1, None]),
        scores("c", [0.9, 0.9, None], missing=["1"]),  # not whole yet
    ]
    _, base, first, second = effect_rows(STUDY, found)
    assert base == ["default", "0.500", "", "", "0.500", "1 of 9"]
    assert first[:4] == ["first", "0.300", "-0.200 [-0.400, +0.000]", "0 / 1"]
    assert second == ["second", "0.550", "+0.050 [+0.000, +0.100]", "1 / 0", "0.500", "3 of 9"]
    assert effect_rows(STUDY, [scores("a", [0.5])]) == effect_rows(STUDY, [])  # nothing to compare with: the head


@pytest.mark.parametrize("study", STUDIES.values(), ids=STUDIES)
def test_every_change_is_one_that_the_command_takes_and_the_default_is_not(study):
    assert study.split in TASKS[study.task].splits
    plain = None
    for change in (Change("default", "", ()), *study.changes):
        parsed = command.make_parser().parse_args(["--task", study.task, *change.options])
        given = options_given({key: getattr(parsed, key) for key in command.OPTIONS})
        if plain is None:
            plain = given
            continue
        TrackingOptions(**given)
        assert given != plain and (len(given) == 1 or not given["constrained"])
    assert len({change.name for change in study.changes} | {"default"}) == len(study.changes) + 1
    if not TASKS[study.task].needs_data:
        names = {item.name for item in load_items(study.task, "sot", study.split, None)}
        assert set(study.sequences) <= names


def test_one_command_writes_the_section_and_goes_on(tmp_path, monkeypatch, capsys):
    miniatures.realdata(tmp_path / "data")
    asked = []

    def pipe(model, device, batch_size, settings):
        asked.append(settings)
        return ListPipe(shift=9.0 if "zoom_factor" in settings else 0.0)

    monkeypatch.setattr(command, "_pipeline", pipe)
    wanted = [change for change in STUDIES["realdata"].changes if change.name in ("no_zoom", "factor_3")]
    small = dataclasses.replace(STUDIES["realdata"], changes=tuple(wanted))
    monkeypatch.setattr(effects, "STUDIES", {"synthetic": STUDIES["synthetic"], "realdata": small})
    page = tmp_path / "results.md"
    drawn = f"## Effect of options\n\n### {STUDIES['synthetic'].title}\n\nmeasured elsewhere\n"
    page.write_text(with_section(with_section("", "realdata", "kept"), "effects", drawn))
    arguments = ["--only", "realdata", "--data", str(tmp_path / "data"), "--out", str(tmp_path / "out")]
    main([*arguments, "--page", str(page)])
    text = page.read_text()
    assert asked == [{}, {"zoom": False}, {"zoom_factor": 3.0}]
    assert text.count("measured elsewhere") == 1 and text.count("## Effect of options\n") == 1
    assert "kept" in text and text.index("kept") < text.index("## Effect of options")
    assert "| no search window" in text and "+0.000 [+0.000, +0.000]" in text
    assert "| search window of 3 times the side |" in text and "| 0 / 1 |" in text
    main([*arguments, "--page", str(page)])
    assert page.read_text() == text and len(asked) == 6  # what was there was not run again
    with pytest.raises(SystemExit, match="holds no results"):
        main(["--only", "realdata", "--out", str(tmp_path / "none"), "--page", str(page)])
