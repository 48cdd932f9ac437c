"""Numbers of trajectories against cases worked by hand."""

import numpy as np
import pytest

from dataset_scripts.construction.measures import measure, table_lines
from dataset_scripts.construction.rows import Trajectory


def row(number, boxes, times, phrase, **more):
    boxes = np.array(boxes, dtype=float)
    there = ~np.isnan(boxes).any(1)
    return Trajectory(
        id=f"t{number}", video_id=f"v{number // 2}", source="hand", video="x.mp4", width=300, height=400,
        frame_indices=list(range(len(boxes))), timestamps=times, boxes=boxes, presence=there,
        scores=np.ones(len(boxes)), phrase=phrase, **more,
    )  # fmt: skip


def test_numbers_worked_by_hand():
    rows = [
        # the center moves 0.3 of 300 px and 0.4 of 400 px... 90 and 160 px in a second; the diagonal is 500 px
        row(0, [[0, 0, 0.2, 0.2], [0.3, 0.4, 0.5, 0.6]], [0.0, 1.0], "a Red ball", split="test"),
        row(1, [[0, 0, 0.5, 0.5], [np.nan] * 4, [0.5, 0, 1.5, 0.5], [0, 0, 0.5, 0.5]], [0, 1, 2, 3], "a red ball"),
        row(2, [[0.1, 0.1, 0.3, 0.2]], [0.0], "dog", fps=4.0),
    ]
    found = measure(iter(rows))
    assert found.table() == {
        "trajectories": 3, "videos": 2, "expressions": 3, "distinct expressions": 2, "distinct words": 4, "boxes": 6,
        "hours": round((2 + 4 + 0.25) / 3600, 4), "mean frames": 2.3, "shortest, frames": 1, "longest, frames": 4,
        "mean seconds": 2.08, "mean words": 2.33,
    }  # fmt: skip
    np.testing.assert_allclose(found.values["speed"][:2], [np.hypot(90, 160) / 500, (150 + 150) / 500 / 3], rtol=1e-6)
    np.testing.assert_allclose(found.values["box_side"], [0.2, 0.5, np.sqrt(0.02)], rtol=1e-6)
    assert np.isnan(found.values["speed"][2]) and found.values["absent"].tolist() == [0, 0.25, 0]
    assert found.splits == {"test": 1, "train": 2}
    assert found.quantiles()["words"] == {"0": 1, "0.05": 1.2, "0.25": 2, "0.5": 3, "0.75": 3, "0.95": 3, "1": 3}
    lines = table_lines(found)
    assert "| trajectories | 3 |" in lines and any(
        line.startswith("| words of the expression | 1 |") for line in lines
    )


def test_nothing_to_measure_is_an_error():
    with pytest.raises(ValueError, match="no trajectory"):
        measure([])
