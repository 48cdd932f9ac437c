"""A run's log becomes a picture whose lines go where the values are."""

import json
from xml.etree import ElementTree

import numpy as np
import pytest

from train.curve import HEIGHT, MARGIN, WIDTH, curves, draw, main

LOG = [{"step": s, "loss": 4.0 - s, "epoch": 1} for s in range(1, 4)] + [{"step": 3, "reward<": 0.5}]


def written(folder, log=LOG):
    path = folder / "checkpoint-3" / "trainer_state.json"
    path.parent.mkdir()
    path.write_text(json.dumps({"log_history": log}))
    return path


def test_values_are_read_from_the_newest_checkpoint(tmp_path):
    path = written(tmp_path)
    expected = [[1, 3], [2, 2], [3, 1]]
    assert curves(tmp_path, ["loss"])["loss"].tolist() == curves(path, ["loss"])["loss"].tolist() == expected


def test_lines_span_the_picture():
    lines = {"a": np.array([[0, 1.0], [10, 3.0]]), "b<": np.array([[0, 2.0], [10, 2.0]])}
    root = ElementTree.fromstring(draw(lines, window=2))
    drawn = [[float(v) for v in pair.split(",")] for pair in root.findall("{*}polyline")[0].get("points").split()]
    assert drawn == [[MARGIN, HEIGHT - MARGIN], [WIDTH - MARGIN, MARGIN]]  # lowest and highest value
    mean = [[float(v) for v in pair.split(",")] for pair in root.findall("{*}polyline")[1].get("points").split()]
    assert mean[1][1] == HEIGHT / 2  # of 1 and 3
    texts = [text.text for text in root.findall("{*}text")]
    assert {"a", "b<", "step", "1", "3"} <= set(texts)


def test_a_line_without_change_is_drawn():
    assert "polyline" in draw({"a": np.array([[5, 1.0]])})


def test_the_command(tmp_path):
    written(tmp_path)
    main([str(tmp_path), "--keys", "loss", "reward<", "--output", str(tmp_path / "a.svg")])
    ElementTree.parse(tmp_path / "a.svg")
    with pytest.raises(SystemExit, match=r"no \['lost'\]; it logged \['loss'"):
        main([str(tmp_path), "--keys", "lost", "--output", str(tmp_path / "b.svg")])
    with pytest.raises(SystemExit, match="holds no checkpoint"):
        main([str(tmp_path / "nowhere"), "--output", str(tmp_path / "b.svg")])
