"""Videos whose frames are in tars: written by `export webdataset`, and read as any other video of a build."""

import io
import tarfile
from dataclasses import replace
from pathlib import Path

import datasets
import numpy as np
import pytest
from PIL import Image

from dataset_scripts.construction import export as exports
from dataset_scripts.construction.builds import open_row, read_build
from dataset_scripts.construction.export import export
from dataset_scripts.construction.frame_tars import TarFrames, unpack
from dataset_scripts.construction.rows import read_trajectories, write_trajectories
from dataset_scripts.elysium_track.plan import PublishSettings
from dataset_scripts.elysium_track.publish import publish
from dataset_scripts.review.clip import frames_of
from processing_elysium.frames import open_video

from ..tiny_build import NUM_FRAMES, write_build


@pytest.fixture(scope="module")
def tars(tmp_path_factory):
    """A build, and its frames in tars of two videos each at most."""
    folder = tmp_path_factory.mktemp("frames")
    rows = write_build(folder / "build")
    for file in sorted((folder / "build" / "shards").glob("*.parquet")):  # every other frame of the videos
        thin = [
            replace(
                row, frame_indices=row.frame_indices[::2], timestamps=row.timestamps[::2], boxes=row.boxes[::2],
                presence=row.presence[::2], scores=row.scores[::2],
            )
            for row in read_trajectories(file)
        ]  # fmt: skip
        write_trajectories(file, thin)
    before, exports.FRAMES_PER_TAR = exports.FRAMES_PER_TAR, NUM_FRAMES // 2
    try:
        export("webdataset", folder / "build", folder / "build", folder / "tars")
    finally:
        exports.FRAMES_PER_TAR = before
    return folder, rows


def test_the_folder_is_a_build_without_its_videos(tars):
    folder, rows = tars
    names = sorted(
        path.relative_to(folder / "tars").as_posix() for path in (folder / "tars").rglob("*") if path.is_file()
    )
    assert names == [
        "test-000000.tar", "test-000001.tar", "train-000000.tar", "train-000001.tar",
        *(f"trajectories/{split}-{n:06d}.parquet" for split in ("test", "train") for n in (0, 1)),
    ]  # fmt: skip
    held = {row.id: row for row in read_build(folder / "tars")}
    assert set(held) == {row.id for row in rows}
    for row in read_build(folder / "build"):
        found = held[row.id]
        assert found.frame_indices == list(range(NUM_FRAMES // 2)) and found.fps is None
        np.testing.assert_array_equal(found.boxes, row.boxes)
        assert (found.phrase, found.timestamps, found.split) == (row.phrase, row.timestamps, row.split)
        with open_row(found, folder / "tars") as video, open_row(row, folder / "build") as truth:
            assert (video.num_frames, video.width, video.height) == (NUM_FRAMES // 2, row.width, row.height)
            shown, wanted = video.read(found.frame_indices), truth.read(row.frame_indices)
            pictures = [np.asarray(Image.open(io.BytesIO(exports._jpeg(frame)))) for frame in wanted]
            np.testing.assert_array_equal(shown, pictures)
        assert len(frames_of(found, folder / "tars", [0, 2])) == 2  # what reviewers are shown


def test_it_is_published_and_exported_again(tars, tmp_path):
    folder, rows = tars
    settings = PublishSettings(build=str(folder / "tars"), videos=str(folder / "tars"), rows_per_shard=3)
    publish(settings, tmp_path / "track")
    assert (tmp_path / "track" / "contact_sheet.jpg").is_file()
    found = list(datasets.load_dataset(str(tmp_path / "track"), "rsot", split="train", streaming=True))
    assert len(found) == sum(row.split == "train" for row in rows) and len(found[0]["frames"]) == NUM_FRAMES // 2
    export("lasot", folder / "tars", folder / "tars", tmp_path / "lasot")
    assert len(list((tmp_path / "lasot").rglob("00000003.jpg"))) == len(rows)


def tar_of(path, *names, compression=""):
    with tarfile.open(path, f"w{compression}") as tar:
        for number, name in enumerate(names):
            buffer = io.BytesIO()
            Image.fromarray(np.full((8, 10, 3), 20 * number, dtype=np.uint8)).save(buffer, "PNG")
            content = buffer.getvalue() if name.endswith(("png", "jpg")) else b"{}"
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def test_which_pictures_belong_to_a_video(tmp_path):
    """Another video's longer name, records beside the frames, numbers without leading zeros, folders."""
    names = ("a_10.png", "a_9.png", "a_9.json", "a_b_1.png", "a_1_2.png", "c/a_3.png", "c/4.png")
    tar = tar_of(tmp_path / "x.tar", *names)
    assert [frame[0, 0, 0] for frame in TarFrames(f"{tar}!a_").read(range(9))] == [20, 0]
    assert TarFrames(f"{tar}!c/a_").num_frames == 1 and TarFrames(f"{tar}!c/").num_frames == 1
    with open_video(str(unpack(f"{tar}!a_", tmp_path / "out"))) as video:
        assert [frame[0, 0, 0] for frame in video.read(range(2))] == [20, 0]


def test_what_cannot_be_read(tmp_path):
    tar = tar_of(tmp_path / "x.tar", "a_1.png", "b_1.json")
    with pytest.raises(ValueError, match="has no picture called b_NUMBER"):
        TarFrames(f"{tar}!b_")
    with pytest.raises(ValueError, match="cannot be read as an uncompressed tar"):
        TarFrames(f"{tar_of(tmp_path / 'z.tar', 'a_1.png', compression=':gz')}!a_")
    with pytest.raises(ValueError, match="cannot be read as an uncompressed tar"):
        TarFrames(f"{tmp_path / 'none.tar'}!a_")
    (tmp_path / "cut.tar").write_bytes(Path(tar).read_bytes()[:560])
    with pytest.raises(ValueError, match=r"cut\.tar"):
        TarFrames(f"{tmp_path / 'cut.tar'}!a_")
