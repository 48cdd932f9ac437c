"""Execution with fast fake backends: same files by any number of processes and kills; bad videos are put aside."""

import csv
import dataclasses
import errno
import json
import os
import pickle
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import yaml

from dataset_scripts.construction import executor, ray_executor
from dataset_scripts.construction.build import main
from dataset_scripts.construction.config import BackendConfig, BuildConfig, InputConfig, RayConfig
from dataset_scripts.construction.executor import run_build
from dataset_scripts.construction.inputs import read_inputs
from dataset_scripts.construction.manifest import MANIFEST
from dataset_scripts.construction.rows import read_trajectories
from dataset_scripts.plain import to_plain
from dataset_scripts.synthetic.write import write_video

pytest.importorskip("spacy")
pytest.importorskip("filterpy")

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
# id, video, noun of the caption -> what becomes of it
VIDEOS = [
    ("v0", "a.mp4", "dog"), ("v1", "a.mp4", "cat"), ("v2", "a.mp4", "dog"), ("v3", "a.mp4", "horse"),
    ("v4", "gone.mp4", "dog"), ("v0", "a.mp4", "dog"), ("v6", "a.mp4", "bird"), ("v7", "a.mp4", "pig"),
    ("v8", "a.mp4", "fish"), ("v9", "broken.mp4", "dog"), ("v10", "a.mp4", ""), ("v11", "a.mp4", "dog"),
    ("v12", "a.mp4", "dog"),
]  # fmt: skip
QUARANTINED = {
    "v1": "grounder_error", "v3": "timeout", "v4": "video_missing", "v0": "duplicate_id", "v7": "worker_died",
    "v6": "grounder_nan", "v9": "video_unreadable", "v11": "unwritable",
}  # fmt: skip


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("videos")
    write_video(folder / "a.mp4", np.random.default_rng(0).integers(0, 256, (10, 64, 64, 3), dtype=np.uint8))
    (folder / "broken.mp4").write_bytes(b"no video")
    lines = [{"id": i, "video": v, "caption": f"A {noun} is here." if noun else ""} for i, v, noun in VIDEOS]
    lines[11]["license"] = "\udc00"  # JSON may hold half a surrogate pair, parquet may not
    (folder / "bad.jsonl").write_text("\n".join(map(json.dumps, lines)))
    with (folder / "good.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("id", "video", "caption"), *((n, "a.mp4", "A dog is here.") for n in range(60))])
    return folder


@pytest.fixture(autouse=True)
def fakes(monkeypatch):
    monkeypatch.syspath_prepend(str(HERE))


def settings(videos, output, table="bad.jsonl", delay_s=0.0, **changes):
    return BuildConfig(
        input=InputConfig("table", str(videos / table)), output=str(output), timeout_s=10.0, shard_size=4,
        grounder=BackendConfig("custom", {"factory": "fake_backends:Grounder", "delay_s": delay_s}),
        tracker=BackendConfig("custom", {"factory": "fake_backends:Trackers"}),
    ) if not changes else dataclasses.replace(settings(videos, output, table, delay_s), **changes)  # fmt: skip


def content(build):
    """Return all that a build says: the bytes of its shards, the lines of its manifest without the clock."""
    lines = [json.loads(line) for line in (build / MANIFEST).read_text().splitlines()]
    manifest = sorted(({**line, "seconds": None} for line in lines), key=lambda line: line["shard"])
    return {path.name: path.read_bytes() for path in build.glob("*.parquet")}, manifest


@pytest.fixture(scope="module")
def one_process(videos):
    sys.path.insert(0, str(HERE))
    config = settings(videos, videos / "out1")
    results = []
    run_build(config, read_inputs(config.input), results.append)
    sys.path.remove(str(HERE))
    assert len(results) == len(VIDEOS)
    return videos / "out1"


def test_bad_videos_are_put_aside_with_their_reasons(one_process):
    _, lines = content(one_process)
    found = {one["id"]: one["reason"] for line in lines for one in line["quarantined_videos"]}
    assert found == QUARANTINED
    assert sum(line["quarantined"].get("duplicate_id", 0) for line in lines) == 1
    assert [line["counts"]["videos"] for line in lines] == [4, 4, 4, 1]
    dropped = {name: count for line in lines for name, count in line["dropped"].items()}
    assert dropped["grounding.first_frame"] == 1 and any(name.startswith("caption.") for name in dropped)
    assert [row.id for row in read_trajectories(one_process)] == ["v0#0", "v2#0", "v12#0"]


def test_two_processes_write_the_same(one_process, videos, tmp_path):
    # beside the first, because rows hold the way from the build to the video
    config = settings(videos, videos / "out2", processes=2)
    run_build(config, read_inputs(config.input))
    assert content(videos / "out2") == content(one_process)


@pytest.mark.slow
def test_ray_goes_on_where_the_local_executor_stopped_and_writes_the_same(one_process, videos, monkeypatch):
    ray = pytest.importorskip("ray")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), str(HERE)]))
    pool = RayConfig(min_actors=1, max_actors=2, num_cpus=0.5, batch_size=2)
    config = settings(videos, videos / "on_ray", executor="ray", ray=pool)
    shutil.copytree(one_process, config.folder)
    for number in range(3):
        (config.folder / f"shard-{number:05d}.parquet").unlink()
    skipped, results = [], []
    run_build(config, read_inputs(config.input), results.append, skipped.append)
    assert [entry.shard for entry in skipped] == [3] and len(results) == 12
    assert content(config.folder) == content(one_process)
    assert not ray.is_initialized()


@pytest.mark.slow
def test_a_lost_actor_is_started_again_and_nothing_is_lost_or_doubled(videos, monkeypatch):
    pytest.importorskip("ray")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), str(HERE)]))
    alone = settings(videos, videos / "all_here", "good.csv", delay_s=0.05)
    run_build(alone, read_inputs(alone.input))
    pool = RayConfig(min_actors=2, max_actors=2, num_cpus=0.5, batch_size=2)
    config = dataclasses.replace(alone, output=str(videos / "lost"), executor="ray", ray=pool)
    results, killed = [], []

    def kill_one(result):
        results.append(result)
        actors = [] if killed else [one.name for one in Path("/proc").glob("[0-9]*") if b"MapWorker" in cmdline(one)]
        for process in actors[:1]:
            os.kill(int(process), signal.SIGKILL)
            killed.append(process)

    run_build(config, read_inputs(config.input), kill_one)
    assert len(killed) == 1 and len(results) == 60
    assert content(config.folder) == content(alone.folder) and len(list(read_trajectories(config.folder))) == 60


def cmdline(process):
    try:
        return (process / "cmdline").read_bytes()
    except OSError:  # it has ended meanwhile
        return b""


@pytest.mark.slow
def test_an_actor_outlives_its_worker_and_passes_on_what_ends_a_run(videos, tmp_path):
    items = {item.id: item for item in read_inputs(settings(videos, tmp_path).input)}
    window = [(name, items[name]) for name in ("v7", "v2")]
    for tracker, words in (("Trackers", None), ("Nobody", "components cannot be built.*Nobody")):
        change = {"tracker": BackendConfig("custom", {"factory": f"fake_backends:{tracker}"})}
        actor = ray_executor._Actor(settings(videos, tmp_path, **change))
        answer = actor(ray_executor._table(window, range(2))).to_pydict()
        results = [pickle.loads(packed) for packed in answer["result"]]
        actor._worker.end()
        assert answer["number"] == [0, 1]
        if words is None:
            assert results[0].quarantined[0] == "worker_died" and results[1].counts["kept"] == 1
        else:
            assert isinstance(results[0], ValueError) and re.search(words, str(results[0]))


def test_actors_that_fit_into_no_machine_are_refused():
    cluster = SimpleNamespace(cluster_resources=lambda: {"CPU": 2.0})
    with pytest.raises(ValueError, match=r"min_actors=3 with 0.5 GPU each need 1.5, and the cluster has 0; lower"):
        ray_executor._check_fit(cluster, RayConfig(min_actors=3, max_actors=4, num_cpus=0.5, num_gpus=0.5))
    ray_executor._check_fit(cluster, RayConfig(min_actors=4, max_actors=9, num_cpus=0.5))


def test_without_ray_the_executor_says_what_to_install(videos, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    config = settings(videos, tmp_path / "out", executor="ray")
    with pytest.raises(ImportError, match=r"elysium\[ray\].*executor: local"):
        run_build(config, read_inputs(config.input))


def test_a_finished_build_starts_no_worker_and_a_lost_shard_is_made_again(one_process, videos, tmp_path, monkeypatch):
    before = content(one_process)
    config = settings(videos, one_process)
    skipped = []
    monkeypatch.setattr("dataset_scripts.construction.workers._Worker", None)
    run_build(config, read_inputs(config.input), on_skipped=skipped.append)
    assert len(skipped) == 4
    monkeypatch.undo()
    monkeypatch.syspath_prepend(str(HERE))
    (one_process / "shard-00003.parquet").unlink()
    with (one_process / MANIFEST).open("a") as file:
        file.write('{"shard": 7, "cou')
    run_build(config, read_inputs(config.input))
    assert content(one_process) == before


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"seed": 5}, "other settings.*seed"),
        ({"shard_size": 3}, "other settings.*shard_size"),
        ({"output": "{videos}"}, None),
    ],
)
def test_what_does_not_belong_together_is_refused(one_process, videos, change, words):
    if words is None:  # a folder with parquet files of someone else
        folder = videos / "foreign"
        folder.mkdir(exist_ok=True)
        shutil.copy(one_process / "shard-00000.parquet", folder)
        change, words = {"output": str(folder)}, "not of a build"
    config = dataclasses.replace(settings(videos, one_process), **change)
    with pytest.raises(ValueError, match=words):
        run_build(config, read_inputs(config.input))


def test_a_changed_input_is_refused(one_process, videos):
    config, items = settings(videos, one_process), list(read_inputs(settings(videos, one_process).input))
    for other in (items[1:], items[:4], [*items, items[0]]):
        with pytest.raises(ValueError, match="has changed"):
            run_build(config, other)


def test_components_that_cannot_be_built_are_an_error_of_the_settings(videos, tmp_path):
    config = settings(videos, tmp_path / "out", tracker=BackendConfig("custom", {"factory": "fake_backends:Nobody"}))
    with pytest.raises(ValueError, match="Nobody"):
        run_build(config, read_inputs(config.input))


@pytest.mark.slow
def test_a_full_disk_stops_with_the_finished_shards_kept(videos, monkeypatch):
    config = settings(videos, videos / "full", "good.csv", shard_size=20)
    real, written = executor.write_trajectories, []

    def write(path, rows):
        if len(written) == 1:
            Path(f"{path}x.part").write_bytes(b"half")
            raise OSError(errno.ENOSPC, "no space left")
        written.append(path)
        return real(path, rows)

    monkeypatch.setattr(executor, "write_trajectories", write)
    (videos / "full.yaml").write_text(yaml.safe_dump(to_plain(config)))
    assert main([str(videos / "full.yaml")]) == 3
    assert len(content(videos / "full")[1]) == 1
    monkeypatch.setattr(executor, "write_trajectories", real)
    assert main([str(videos / "full.yaml")]) == 0
    assert len(content(videos / "full")[1]) == 3 and not list((videos / "full").glob("*.part"))
    assert [row.video_id for row in read_trajectories(videos / "full")] == [str(n) for n in range(60)]


@pytest.mark.slow
def test_killed_at_any_moment_it_ends_with_the_same_files(videos):
    """Kill the command with SIGKILL after random numbers of shards, then let it finish."""
    draw = random.Random(0)
    config = settings(videos, videos / "killed", "good.csv", delay_s=0.05, processes=2)
    (videos / "killed.yaml").write_text(yaml.safe_dump(to_plain(config)))
    command = [sys.executable, "-m", "dataset_scripts.construction.build", str(videos / "killed.yaml")]
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{HERE}"}
    for kills in range(2):
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.DEVNULL)
        manifest, wanted = videos / "killed" / MANIFEST, 3 * kills + 1
        until = time.monotonic() + 120
        while time.monotonic() < until and process.poll() is None:
            if manifest.exists() and manifest.read_bytes().count(b"\n") >= wanted:
                break
            time.sleep(0.01)
        time.sleep(draw.random() * 0.2)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL, "it ended before it was killed"
    subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True, timeout=600)
    calm = settings(videos, videos / "calm", "good.csv", delay_s=0.05)
    run_build(calm, read_inputs(calm.input))
    assert content(videos / "killed") == content(videos / "calm")
    assert len(content(videos / "calm")[0]) == 15


@pytest.mark.slow
def test_the_command_estimates_and_names_errors(videos, tmp_path, capsys):
    path = tmp_path / "c.yaml"
    path.write_text(yaml.safe_dump(to_plain(settings(videos, tmp_path / "dry", "good.csv"))))
    assert main([str(path), "--dry-run", "--sample", "2", "--processes", "2"]) == 0
    printed = capsys.readouterr().out
    assert "60 videos: about" in printed and "2 trajectories kept" in printed and not (tmp_path / "dry").exists()
    assert main([str(path), "--set", "shard_sise=3"]) == 2
    assert "did you mean 'shard_size'" in capsys.readouterr().err
