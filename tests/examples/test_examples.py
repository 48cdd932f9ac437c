"""The examples run as they stand, from the root of the clone, with the embedded checkpoint."""

import importlib.util
from pathlib import Path

import pytest

from train.config import load_recipe

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = sorted(path.stem for path in (ROOT / "examples").glob("*.py"))
MOST_LINES = 60


@pytest.fixture
def example(monkeypatch):
    """Loads an example by name."""
    monkeypatch.chdir(ROOT)

    def load(name):
        spec = importlib.util.spec_from_file_location(name, ROOT / "examples" / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return load


def test_all_of_them_are_short_and_tested():
    assert EXAMPLES
    for name in EXAMPLES:
        assert f"test_{name}" in globals(), f"examples/{name}.py is not run by a test"
        lines = (ROOT / "examples" / f"{name}.py").read_text(encoding="utf-8").splitlines()
        assert len(lines) <= MOST_LINES, f"examples/{name}.py has {len(lines)} lines"


def test_recipes_are_read_as_training_reads_them():
    recipes = sorted((ROOT / "examples").glob("*.yaml"))
    assert recipes and all(load_recipe(path).stages for path in recipes)


def test_track_by_box(example, capsys):
    frames = example("track_by_box").main()
    assert len(frames) == 64 and all(frame["objects"] for frame in frames)
    assert "frame   8: xmin" in capsys.readouterr().out


@pytest.mark.slow
def test_track_by_words(example, capsys):
    assert len(example("track_by_words").main()) == 64
    assert "the bottle: 64 frames" in capsys.readouterr().out


@pytest.mark.slow
def test_several_objects(example, capsys):
    centers = example("several_objects").main()
    assert {label: len(path) for label, path in centers.items()} == {"bottle": 64, "hand": 64}
    assert "passes of the language model" in capsys.readouterr().out


@pytest.mark.slow
def test_stream_a_camera(example, capsys):
    pytest.importorskip("cv2")
    assert example("stream_a_camera").main(limit=9) == 9
    assert capsys.readouterr().out.startswith("0 {'xmin'")


@pytest.mark.slow
def test_live_tracker(example, capsys):
    seen = example("live_tracker").main()
    assert [[item["id"] for item in result["objects"]] for result in seen] == [[0]] * 4 + [[0, 1]] * 4 + [[1]] * 4
    assert capsys.readouterr().out.startswith("frame 0: bottle 158")


def test_describe(example, capsys):
    said = example("describe").main()
    assert said
    assert capsys.readouterr().out == f"in the box: {said}\n"


@pytest.mark.slow
def test_fine_tune(example, capsys):
    pytest.importorskip("peft")
    losses = example("fine_tune").main("12")
    assert losses[-1] < losses[0]
    assert "'xmin'" in capsys.readouterr().out


@pytest.mark.slow
def test_finetune_on_my_boxes(example, capsys, tmp_path):
    before, after = example("finetune_on_my_boxes").main("", str(tmp_path), "3")
    assert 0.2 < before < 1 and 0.2 < after < 1  # three steps teach nothing and break nothing
    out = capsys.readouterr().out
    assert "10 records: 10 objects" in out and f"-> {after:.3f}" in out
    assert len((tmp_path / "train.jsonl").read_text().splitlines()) == 8
