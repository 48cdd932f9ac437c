"""A published folder loads with nothing but datasets; reviews are applied; nothing is overwritten, work is resumed."""

import json
import os
import shutil
import subprocess

import datasets
import numpy as np
import pyarrow.parquet as pq
import pytest
from huggingface_hub import DatasetCard

from dataset_scripts.construction.rows import read_trajectories, write_trajectories
from dataset_scripts.elysium_track import tables
from dataset_scripts.elysium_track.elysium_track import COLUMNS
from dataset_scripts.elysium_track.plan import PublishSettings, split_of
from dataset_scripts.elysium_track.publish import check_loads, main, publish, push
from dataset_scripts.review.decisions import append_decision

from ..review.test_decisions import said
from ..tiny_build import NUM_FRAMES, SIZE, write_build


@pytest.fixture(scope="module")
def build(tmp_path_factory):
    folder = tmp_path_factory.mktemp("build")
    return folder, write_build(folder)


@pytest.fixture(scope="module")
def published(build, tmp_path_factory):
    out = tmp_path_factory.mktemp("out") / "track"
    publish(PublishSettings(build=str(build[0]), videos=str(build[0]), rows_per_shard=5, license="cc-by-4.0"), out)
    return out


@pytest.mark.parametrize("streaming", [True, False])
@pytest.mark.parametrize("config", COLUMNS)
def test_every_configuration_loads(build, published, config, streaming, tmp_path):
    _, rows = build
    data = datasets.load_dataset(str(published), config, streaming=streaming, cache_dir=str(tmp_path))
    assert set(data) == {"train", "test"}
    for split in data:
        wanted = [row for row in rows if row.split == split]
        got = list(data[split])
        assert [row["id"] for row in got] == [row.id for row in wanted]
        assert tuple(got[0]) == COLUMNS[config]
        for one, row in zip(got, wanted, strict=True):
            np.testing.assert_array_equal([box for box in one["boxes"] if box], row.boxes[row.presence])
            if config != "trajectories":
                assert [frame.size for frame in one["frames"]] == [(SIZE, SIZE)] * NUM_FRAMES
            else:
                assert (published / one["video"]).read_bytes() == (build[0] / row.video).read_bytes()


@pytest.mark.parametrize("streaming", [True, False])
def test_videos_can_be_browsed(build, published, streaming, tmp_path):
    data = datasets.load_dataset(
        "videofolder", data_dir=str(published / "videos"), streaming=streaming, cache_dir=str(tmp_path)
    )
    data = {split: data[split].cast_column("video", datasets.Video(decode=False)) for split in data}
    rows = [row for split in ("train", "test") for row in data[split]]
    assert sorted(row["video_id"] for row in rows) == ["v0", "v1", "v2", "v3"]
    first = next(row for row in rows if row["video_id"] == "v0")
    wanted = [row for row in build[1] if row.video_id == "v0"]
    assert [item["expression"] for item in first["objects"]] == [row.phrase for row in wanted]
    np.testing.assert_allclose(first["objects"][0]["first_box"], wanted[0].boxes[0])
    assert first["video"]["path"].endswith("v0.mp4")


def test_the_card_says_what_there_is(build, published):
    _, rows = build
    card = DatasetCard.load(published / "README.md")
    assert card.data.license == "cc-by-4.0" and card.data.size_categories == ["n<1K"]
    infos = {info["config_name"]: info for info in card.data["dataset_info"]}
    counts = {split["name"]: split["num_examples"] for split in infos["rsot"]["splits"]}
    assert counts == {split: sum(row.split == split for row in rows) for split in ("train", "test")}
    assert f"{len(rows)} trajectories" in card.text and "Apache-2.0" in card.text
    sheet = (published / "DATASHEET.md").read_text()
    assert "`seed`" in sheet and "nobody reviewed" in sheet and "drawn" in sheet
    assert json.loads((published / "statistics.json").read_text())["table"]["trajectories"] == len(rows)
    assert (published / "contact_sheet.jpg").stat().st_size > 1000
    assert not (published / ".work").exists()
    for file in published.rglob("*"):
        assert str(build[0]) not in file.name
        if file.suffix in (".md", ".json"):
            assert str(build[0]) not in file.read_text()  # no path of the machine that made it


def test_frames_of_a_shard_are_stored_once_and_read_in_small_groups(published, monkeypatch):
    file = pq.ParquetFile(next((published / "frames").glob("train-*.parquet")))
    assert set(file.schema_arrow.names) == set(COLUMNS["rsot"]) | set(COLUMNS["video_reg"])
    assert len(list((published / "frames").glob("train-00*.parquet"))) == 2  # of 5 rows at most


def test_reviews_are_applied(build, tmp_path):
    folder, rows = build
    test = [row for row in rows if row.split == "test"]
    log = tmp_path / "log.jsonl"
    append_decision(log, said(test[0]))
    append_decision(log, said(test[1], "edit", phrase="the only one"))
    append_decision(log, said(test[2], "reject"))
    settings = PublishSettings(
        build=str(folder), videos=str(folder), decisions=str(log), require_review=("test",), max_frames=2, max_side=32
    )
    publish(settings, tmp_path / "out")
    data = datasets.load_dataset(str(tmp_path / "out"), "rsot", cache_dir=str(tmp_path / "cache"))
    assert data["test"]["expression"] == [test[0].phrase, "the only one"]
    assert len(data["train"]) == sum(row.split == "train" for row in rows)
    assert data["test"][0]["frame_indices"] == [0, NUM_FRAMES - 1] and data["test"][0]["frames"][0].size == (32, 32)
    sheet = (tmp_path / "out" / "DATASHEET.md").read_text()
    assert "- accepted: 1" in sheet and "- edited: 1" in sheet and "- rejected: 1" in sheet


def test_interrupted_work_goes_on(build, tmp_path, monkeypatch):
    folder, _ = build
    settings = PublishSettings(build=str(folder), videos=str(folder), rows_per_shard=5)
    out, real, calls = tmp_path / "out", tables.write_frames, []

    def breaks(rows, settings, target):
        calls.append(target.name)
        if len(calls) == 3:
            raise KeyboardInterrupt
        real(rows, settings, target)

    monkeypatch.setattr("dataset_scripts.elysium_track.publish.write_frames", breaks)
    with pytest.raises(KeyboardInterrupt):
        publish(settings, out)
    assert not out.exists() and len(list((tmp_path / "out.partial" / "frames").iterdir())) == 2
    with pytest.raises(ValueError, match="other settings"):
        publish(PublishSettings(build=str(folder), videos=str(folder), rows_per_shard=4), out)
    publish(settings, out)
    assert len(calls) == len(set(calls)) + 1  # the one that broke is the only one written anew
    with pytest.raises(ValueError, match="not overwritten"):
        publish(settings, out)
    whole = tmp_path / "whole"
    publish(settings, whole)
    for file in sorted(path.relative_to(whole) for path in whole.rglob("*") if path.is_file()):
        assert (out / file).read_bytes() == (whole / file).read_bytes(), file


def test_videos_are_divided_once_and_for_all(build, tmp_path):
    settings = PublishSettings(build=str(build[0]), videos="", validation=0.2, test=0.3, seed=3)
    drawn = [split_of(f"v{i}", settings) for i in range(2000)]
    shares = [drawn.count(split) / 2000 for split in ("train", "validation", "test")]
    np.testing.assert_allclose(shares, [0.5, 0.2, 0.3], atol=0.04)
    write_build(tmp_path / "b", 4, (None,))
    published = publish(
        PublishSettings(build=str(tmp_path / "b"), videos=str(tmp_path / "b"), validation=0.3, test=0.3),
        tmp_path / "o",
    )
    assert sum(published["splits"].values()) == published["table"]["trajectories"]
    sides = {}
    for split in published["splits"]:
        for row in datasets.load_dataset(str(tmp_path / "o"), "trajectories", split=split, streaming=True):
            assert sides.setdefault(row["video_id"], split) == split


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda rows: rows[1].__setattr__("id", rows[0].id), "occurs twice"),
        (lambda rows: rows[1].__setattr__("split", "test"), "in train and in test"),
        (lambda rows: rows[0].__setattr__("split", "dev"), "of the split 'dev'"),
        (lambda rows: rows[0].__setattr__("video", "gone.mp4"), "does not exist"),
    ],
)
def test_builds_that_cannot_be_published(build, change, words, tmp_path, capsys):
    rows = list(read_trajectories(build[0] / "shards" / "00000.parquet"))
    change(rows)
    write_trajectories(tmp_path / "b" / "0.parquet", rows)
    assert main([str(tmp_path / "b"), str(tmp_path / "out"), "--videos", str(build[0])]) == 2
    assert words in capsys.readouterr().err and not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--test", "1"], "below 1 together"),
        (["--quality", "0"], "1 to 100"),
        (["--max-frames", "0"], "max_frames"),
        (["--require-review", "test"], "needs `decisions`"),
        (["--decisions", "none.jsonl"], "does not exist"),
    ],
)
def test_wrong_arguments(build, arguments, words, tmp_path, capsys):
    assert main([str(build[0]), str(tmp_path / "out"), *arguments]) == 2
    assert words in capsys.readouterr().err


def test_a_folder_that_does_not_load_is_told(published, tmp_path):
    shutil.copytree(published, tmp_path / "copy")
    for file in (tmp_path / "copy" / "frames").glob("test-*"):
        file.write_bytes(b"nothing")
    with pytest.raises(ValueError, match="rsot .* does not load"):
        check_loads(tmp_path / "copy")
    shutil.copy(published / "README.md", tmp_path / "copy" / "README.md")
    text = (published / "README.md").read_text().replace("language:", "language: [")
    (tmp_path / "copy" / "README.md").write_text(text)
    with pytest.raises(Exception, match="(?i)yaml|parsing|expected"):
        check_loads(tmp_path / "copy")


def test_pushing_asks_the_hub_for_its_opinion_first(published, monkeypatch):
    asked, done = [], []

    class Session:
        def post(self, url, json, headers):
            httpx = pytest.importorskip("httpx2")

            asked.append(json)
            code = 400 if "license: nonsense" in json["content"] else 200
            return httpx.Response(code, text="license is not known", request=httpx.Request("POST", url))

    class Api:
        def create_repo(self, name, **options):
            done.append(("repo", name, options["private"], options["repo_type"]))
            return f"https://hub/{name}"

        def upload_large_folder(self, **options):
            done.append(("upload", options["repo_id"], options["folder_path"]))

    monkeypatch.setattr("huggingface_hub.repocard.get_session", Session)
    assert push(published, "me/track", api=Api()) == "https://hub/me/track"
    assert asked[0]["repoType"] == "dataset" and done[0] == ("repo", "me/track", True, "dataset")
    assert done[1] == ("upload", "me/track", str(published))
    card = published / "README.md"
    text = card.read_text()
    try:
        card.write_text(text.replace("license: cc-by-4.0", "license: nonsense"))
        with pytest.raises(ValueError, match="not known"):
            push(published, "me/track", api=Api())
    finally:
        card.write_text(text)
    assert len(done) == 2


FRESH = """
import sys
import datasets
for name in ("dataset_scripts", "processing_elysium"):
    try:
        __import__(name)
        raise SystemExit(f"{name} is here")
    except ImportError:
        pass
folder, cache = sys.argv[1:]
for config in ("rsot", "sot", "video_reg", "trajectories"):
    data = datasets.load_dataset(folder, config, cache_dir=cache)
    row = next(iter(datasets.load_dataset(folder, config, streaming=True)["test"]))
    assert row["id"] == data["test"][0]["id"] and row["boxes"] == data["test"][0]["boxes"]
    print(config, data["train"].num_rows, data["test"].num_rows, len(row.get("frames", [])))
"""


def test_it_loads_where_nothing_of_ours_is(build, published, tmp_path):
    python = os.environ.get("ELYSIUM_DATASETS_PYTHON")
    if not python:
        pytest.skip("ELYSIUM_DATASETS_PYTHON names no python with datasets and without this package")
    done = subprocess.run(
        [python, "-c", FRESH, str(published), str(tmp_path / "cache")], cwd=tmp_path, capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": "", "HF_HOME": str(tmp_path / "home")}, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    counts = [sum(row.split == split for row in build[1]) for split in ("train", "test")]
    wanted = [f"{c} {counts[0]} {counts[1]} {0 if c == 'trajectories' else NUM_FRAMES}" for c in COLUMNS]
    assert done.stdout.split("\n")[:4] == wanted
