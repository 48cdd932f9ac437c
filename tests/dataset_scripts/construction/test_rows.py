"""Rows of trajectories: there and back, files whole or not at all."""

import numpy as np
import pytest

from dataset_scripts.construction.rows import Trajectory, read_trajectories, write_trajectories


def trajectory(number=0, **changes):
    values = {
        "id": f"v{number}#0", "video_id": f"v{number}", "source": "drawn", "video": f"v{number}.mp4",
        "width": 64, "height": 48, "frame_indices": [0, 5, 9], "timestamps": [0.0, 0.2, 0.36], "fps": 25.0,
        "boxes": [[0.1, 0.2, 0.3, 0.4], [np.nan] * 4, [0.25, 0.5, 0.75, 1.0]], "presence": [True, False, True],
        "scores": [1.0, np.nan, 0.5], "phrase": "a red ball", "caption": "a red ball rolls", "license": "CC0",
        "split": "train", "provenance": {"thresholds": {"grounding": 0.6}, "seed": 3},
    }  # fmt: skip
    return Trajectory(**{**values, **changes})


def test_rows_come_back_as_they_were_written(tmp_path):
    rows = [trajectory(n, license=None, fps=None, caption=None) if n % 2 else trajectory(n) for n in range(7)]
    assert write_trajectories(tmp_path / "a" / "0.parquet", rows[:4]) == 4
    write_trajectories(tmp_path / "a" / "1.parquet", rows[4:])
    back = list(read_trajectories(tmp_path / "a"))
    assert [row.id for row in back] == [row.id for row in rows]
    for one, two in zip(rows, back, strict=True):
        for name, value in vars(one).items():
            np.testing.assert_array_equal(value, getattr(two, name), err_msg=name)
    write_trajectories(tmp_path / "b.parquet", rows[:4])
    assert (tmp_path / "b.parquet").read_bytes() == (tmp_path / "a" / "0.parquet").read_bytes()


def test_a_row_becomes_a_record():
    record = trajectory().to_record()
    assert record.objects[0].expression == "a red ball" and record.frame_indices == [0, 5, 9]
    assert record.objects[0].known.tolist() == [True, False, True]
    assert record.objects[0].absent.tolist() == [False, True, False]
    assert record.metadata == {"caption": "a red ball rolls", "split": "train"}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"scores": [1.0]}, "unequal lengths"),
        ({"presence": [True, True, True]}, "without a box"),
    ],
)
def test_contradictions_are_errors(changes, words):
    with pytest.raises(ValueError, match=words):
        trajectory(**changes)


def test_what_is_not_there_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="no parquet file"):
        list(read_trajectories(tmp_path))
    with pytest.raises(ValueError, match="same"):
        write_trajectories(tmp_path / "x.parquet", (_ for _ in [1, 2] if _raise()))
    assert not list(tmp_path.iterdir())


def _raise():
    raise ValueError("the same error")
