"""The data set script: both sources, every configuration, streamed and not, and as a script of older versions."""

import io
import json
import os
import subprocess
import tarfile

import numpy as np
import pytest
from PIL import Image

from dataset_scripts.elysium_track.elysium_track import COLUMNS, ElysiumTrack, decode, evenly
from processing_elysium.frames import open_video

from ..tiny_build import NUM_FRAMES, SIZE, write_build

LOSS = 5  # of 255, mean: JPEG, and the color of a noisy picture at half resolution
SCRIPT = ElysiumTrack.__module__.replace(".", "/") + ".py"


@pytest.fixture(scope="module")
def build(tmp_path_factory):
    folder = tmp_path_factory.mktemp("build")
    return folder, write_build(folder)


def loaded(folder, config, cache, **options):
    builder = ElysiumTrack(config_name=config, data_dir=str(folder), cache_dir=str(cache), **options)
    builder.download_and_prepare()
    return builder.as_dataset()


@pytest.mark.parametrize("config", COLUMNS)
def test_a_build_becomes_every_configuration(build, config, tmp_path):
    folder, rows = build
    data = loaded(folder, config, tmp_path)
    assert set(data) == {"train", "test"}
    for split in data:
        wanted = [row for row in rows if row.split == split]
        assert data[split]["id"] == [row.id for row in wanted] and tuple(data[split].column_names) == COLUMNS[config]
        for got, row in zip(data[split], wanted, strict=True):
            assert got["presence"] == row.presence.tolist() and got["frame_indices"] == list(range(NUM_FRAMES))
            for box, true, there in zip(got["boxes"], row.boxes, row.presence, strict=True):
                np.testing.assert_array_equal(box, true if there else [])
            if config != "trajectories":
                assert [frame.size for frame in got["frames"]] == [(SIZE, SIZE)] * NUM_FRAMES
            words = {"rsot": "expression", "video_reg": "description", "trajectories": "phrase"}.get(config)
            assert words is None or got[words] == row.phrase


def test_streamed_rows_are_the_prepared_ones(build, tmp_path):
    folder, _ = build
    prepared = loaded(folder, "rsot", tmp_path)["train"]
    streamed = list(ElysiumTrack(config_name="rsot", data_dir=str(folder)).as_streaming_dataset("train"))
    assert [row["id"] for row in streamed] == prepared["id"]
    np.testing.assert_array_equal(streamed[0]["frames"][3], prepared[0]["frames"][3])


def test_frames_are_those_that_the_rows_name(build, tmp_path):
    folder, rows = build
    row = loaded(folder, "sot", tmp_path, max_frames=3)["test"][0]
    assert row["frame_indices"] == evenly(NUM_FRAMES, 3) == [0, 2, 5]
    name = next(r for r in rows if r.split == "test").video
    with open_video(str(folder / name)) as video:
        true = np.stack(list(video)).astype(int)
    for got, index in zip(row["frames"], (0, 2, 5), strict=True):
        away = np.abs(np.asarray(got) - true).mean((1, 2, 3))
        assert away.argmin() == index and away[index] < LOSS


@pytest.mark.parametrize("degrees", [0, 90, 180, 270])
def test_a_turned_video_is_seen_as_players_show_it(build, degrees, tmp_path):
    folder, rows = build
    source, target = folder / rows[0].video, tmp_path / "turned.mp4"
    target.write_bytes(source.read_bytes())
    matrix = {0: (1, 0, 0, 1), 90: (0, 1, -1, 0), 180: (-1, 0, 0, -1), 270: (0, -1, 1, 0)}[degrees]
    write_display_matrix(target, matrix)
    picture = Image.open(io.BytesIO(decode(str(target), [2])[2]))
    with open_video(str(target)) as video:
        shown = video.read([2])[0].astype(int)
    assert np.abs(np.asarray(picture).astype(int) - shown).mean() < LOSS


def write_display_matrix(file, matrix):
    """Put a rotation into the track header of an mp4 (ISO 14496-12, 8.3.2), as phones do."""
    data = bytearray(file.read_bytes())
    at = data.index(b"tkhd") + 4 + 4 + (32 if data[data.index(b"tkhd") + 4] else 20) + 16
    a, b, c, d = matrix
    for number, value in enumerate((a, b, 0, c, d, 0, 0, 0)):
        data[at + 4 * number : at + 4 * number + 4] = (value * 65536).to_bytes(4, "big", signed=True)
    file.write_bytes(data)


def released(folder, archived=True, order=(0, 1, 2)):
    """The authors' layout: two objects of one video, one of another, in two archives."""
    frames = {
        f"frames/{video}/{i:06d}.jpg": picture_bytes(40 * i + 20 * number)
        for number, video in enumerate(("77", "8"))
        for i in (0, 1, 5)
    }
    lines = []
    for number, (video, words) in enumerate((("77", "a dog"), ("8", "a cat"), ("77", "a ball"))):
        lines.append(
            {
                "source": "webvid",
                "id": number,
                "vid": video,
                "metadata": None,
                "object_class": words,
                "frames": [name for name in frames if f"/{video}/" in name],
                "box": [[0.1, 0.2, 0.3, 0.4]] * 3,
                "object_description": f"{words} on the grass",
                "frame_size": [32, 16],
            }  # fmt: skip
        )
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "ElysiumTrack-1M.json").write_text("".join(json.dumps(lines[i]) + "\n" for i in order))
    for group, video in enumerate(("8", "77")):
        names = [name for name in frames if f"/{video}/" in name]
        if archived:
            (folder / "packaged_results").mkdir(exist_ok=True)
            with tarfile.open(folder / "packaged_results" / f"group_a{group}.tar.gz", "w:gz") as tar:
                for name in names:
                    info = tarfile.TarInfo(name)
                    info.size = len(frames[name])
                    tar.addfile(info, io.BytesIO(frames[name]))
        else:
            for name in names:
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                (folder / name).write_bytes(frames[name])
    return frames


def picture_bytes(value):
    buffer = io.BytesIO()
    Image.new("RGB", (32, 16), (value, 0, 0)).save(buffer, "JPEG")
    return buffer.getvalue()


@pytest.mark.parametrize("archived", [True, False])
@pytest.mark.parametrize("streamed", [True, False])
def test_the_release_is_read(archived, streamed, tmp_path):
    frames = released(tmp_path / "data", archived)
    if streamed:
        builder = ElysiumTrack(config_name="video_reg", data_dir=str(tmp_path / "data"))
        rows = list(builder.as_streaming_dataset("train"))
    else:
        rows = list(loaded(tmp_path / "data", "video_reg", tmp_path / "cache")["train"])
    assert sorted(row["id"] for row in rows) == ["77-0", "77-2", "8-1"]
    cat = next(row for row in rows if row["id"] == "8-1")
    assert cat["description"] == "a cat on the grass" and cat["frame_indices"] == [0, 1, 5]
    wanted = np.asarray(Image.open(io.BytesIO(frames["frames/8/000005.jpg"])))
    np.testing.assert_array_equal(np.asarray(cat["frames"][2]), wanted)


def test_words_of_the_release_and_its_test_split(tmp_path):
    released(tmp_path / "data", order=(1,))
    os.rename(tmp_path / "data" / "ElysiumTrack-1M.json", tmp_path / "data" / "ElysiumTrack-val500.json")
    data = loaded(tmp_path / "data", "rsot", tmp_path / "cache")
    assert set(data) == {"test"} and data["test"]["expression"] == ["a cat"]


def test_what_is_missing_in_the_release_is_told(tmp_path, caplog):
    released(tmp_path / "data")
    (tmp_path / "data" / "packaged_results" / "group_a0.tar.gz").unlink()
    with open(tmp_path / "data" / "ElysiumTrack-1M.json", "a") as file:
        line = json.loads((tmp_path / "data" / "ElysiumTrack-1M.json").read_text().splitlines()[0])
        file.write(json.dumps({**line, "id": 9, "box": line["box"][:2]}) + "\n")
    import datasets

    datasets.utils.logging.enable_propagation()
    try:
        rows = loaded(tmp_path / "data", "sot", tmp_path / "cache")["train"]
    finally:
        datasets.utils.logging.disable_propagation()
    assert sorted(rows["id"]) == ["77-0", "77-2"]
    assert "frames/8" in caplog.text and "other numbers of boxes" in caplog.text


@pytest.mark.parametrize(
    ("prepare", "options", "words"),
    [
        (lambda folder: None, {}, "holds no"),
        (lambda folder: None, {"max_frames": 0}, "max_frames"),
        (lambda folder: released(folder, order=()), {}, "no line"),
        (lambda folder: (folder / "x.json").write_text("{}\n"), {}, "neither frames"),
    ],
)
def test_errors_name_what_is_wrong(prepare, options, words, tmp_path):
    prepare(tmp_path)
    if words == "no line":
        (tmp_path / "ElysiumTrack-1M.json").write_text('{"vid": 1}\n')
    with pytest.raises(Exception) as caught:  # the library wraps what a generator raises
        loaded(tmp_path, "rsot", tmp_path / "cache", **options)
    assert words in str(caught.value) + str(caught.value.__cause__)


OLDER = """
import sys
from datasets import load_dataset, __version__
assert int(__version__.split(".")[0]) < 4, __version__
script, folder, cache = sys.argv[1:]
for config in ("rsot", "sot", "video_reg", "trajectories"):
    data = load_dataset(script, config, data_dir=folder, cache_dir=cache, trust_remote_code=True)
    row = next(iter(load_dataset(script, config, data_dir=folder, streaming=True, trust_remote_code=True)["test"]))
    assert row["id"] == data["test"][0]["id"]
    print(config, *(data[split].num_rows for split in ("train", "test")), len(row.get("frames", [])))
"""


def test_older_versions_load_it_as_a_script(build, tmp_path):
    python = os.environ.get("ELYSIUM_DATASETS3_PYTHON")
    if not python:
        pytest.skip("ELYSIUM_DATASETS3_PYTHON names no python with datasets < 4")
    folder, rows = build
    environment = {**os.environ, "PYTHONPATH": "", "HF_HOME": str(tmp_path / "home")}
    done = subprocess.run(
        [python, "-c", OLDER, os.path.abspath(SCRIPT), str(folder), str(tmp_path / "cache")],
        cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    counts = [sum(row.split == split for row in rows) for split in ("train", "test")]
    wanted = [
        f"{config} {counts[0]} {counts[1]} {0 if config == 'trajectories' else NUM_FRAMES}" for config in COLUMNS
    ]
    assert done.stdout.split("\n")[:4] == wanted
