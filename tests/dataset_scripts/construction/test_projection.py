"""Days of a large run from seconds per stage."""

import json

import pytest

from dataset_scripts.construction.projection import Machines, bounds_days, main, seconds_per_video

SECONDS = {"decode": 0.5, "tracking": 3.0, "grounding": 1.0, "noun_chunks": 0.5}


@pytest.mark.parametrize(
    ("machines", "expected"),
    [
        # 86 400 videos a day at a second each: days are the seconds that a video costs each of the actors, cores, GPUs
        (Machines(actors=1, cores=4), {"actors": 5.0, "cores": 1.25}),
        (Machines(actors=10, cores=2, gpus=4), {"actors": 0.5, "cores": 0.5, "gpus": 1.0}),
    ],
)
def test_the_formula(machines, expected):
    assert bounds_days(SECONDS, 86_400, machines) == pytest.approx(expected)


def test_from_a_manifest_to_days(tmp_path, capsys):
    shards = [{"seconds": {"decode": 1.0, "tracking": 6.0}, "counts": {"videos": 2}},
              {"seconds": {"decode": 2.0}, "counts": {"videos": 1}}]  # fmt: skip
    (tmp_path / "manifest.jsonl").write_text("\n".join(map(json.dumps, shards)))
    assert seconds_per_video(tmp_path) == {"decode": 1.0, "tracking": 2.0}
    command = [str(tmp_path), "--videos", "86400", "--actors", "2", "--cores", "2", "--gpus", "1"]
    assert main(command) == 0
    out = capsys.readouterr().out
    assert "bound by actors         1.50 days" in out and "bound by gpus           2.00 days" in out
    assert main([str(tmp_path / "none"), *command[1:]]) == 2 and "no finished shard" in capsys.readouterr().err
    assert main([*command[:3], "--actors", "0", "--cores", "1"]) == 2 and "actors >= 1" in capsys.readouterr().err
