"""Files appear whole or not at all, and none takes the place of a file in use."""

import os
import subprocess
import sys
import textwrap

import pytest

from tracking_elysium.whole_files import check_outputs, written_whole

OLD, NEW = "old", "new" * 1000


def left_in(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def place(tmp_path):
    """A folder with inputs: a video, links to it, frames, a model."""
    (tmp_path / "in.mp4").write_text("video")
    (tmp_path / "soft.mp4").symlink_to("in.mp4")
    os.link(tmp_path / "in.mp4", tmp_path / "hard.mp4")
    (tmp_path / "frames").mkdir()
    (tmp_path / "frames" / "1.png").write_text("frame")
    (tmp_path / "alias").symlink_to("frames")
    (tmp_path / "taken").write_text("a file")
    return tmp_path


@pytest.mark.parametrize(
    ("video", "outputs", "words"),
    [
        ("in.mp4", {"--output": "in.mp4"}, "--output .*in.mp4' would overwrite the video"),
        ("in.mp4", {"--output": "./frames/../in.mp4"}, "would overwrite the video"),
        ("in.mp4", {"--json": "soft.mp4"}, "--json .* would overwrite the video"),
        ("in.mp4", {"--csv": "hard.mp4"}, "--csv .* would overwrite the video"),
        ("soft.mp4", {"--output": "in.mp4"}, "would overwrite the video"),
        ("frames", {"--contact-sheet": "alias/1.png"}, "would overwrite the video"),
        ("other.mp4", {"--json": "frames"}, "is a folder"),
        ("other.mp4", {"--json": "made/"}, "is a folder"),
        ("other.mp4", {"--json": ""}, "is a folder"),
        ("other.mp4", {"--json": "taken/a.json"}, "is no folder"),
        ("other.mp4", {"--json": "a", "--csv": "./a"}, "--csv '.*a' and --json '.*a' are one file"),
        ("other.mp4", {"--json": "frames/a", "--csv": "alias/a"}, "are one file"),
        ("other.mp4", {"--output": "soft.mp4", "--json": "hard.mp4"}, "are one file"),
    ],
)
def test_a_file_in_use_is_refused(place, monkeypatch, video, outputs, words):
    monkeypatch.chdir(place)
    before = left_in(place)
    with pytest.raises(ValueError, match=words):
        check_outputs(outputs, {"the video": video, "the model": None})
    assert left_in(place) == before and (place / "in.mp4").read_text() == "video"


def test_what_is_free_passes_and_makes_nothing(place, monkeypatch):
    monkeypatch.chdir(place)
    before = left_in(place)
    outputs = {"--output": "new/deep/a.mp4", "--json": "taken", "--csv": "alias/2.png", "--contact-sheet": None}
    check_outputs(outputs, {"the video": "frames", "the model": "https://x/in.mp4"})
    check_outputs({"--json": os.devnull, "--csv": os.devnull}, {"the video": "in.mp4"})
    assert left_in(place) == before


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission_is_refused(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(ValueError, match="may not be written"):
        check_outputs({"--json": str(tmp_path / "a" / "b.json")}, {})


@pytest.mark.parametrize(
    "error", [KeyboardInterrupt(), OSError(28, "No space left on device"), ValueError("bad frame")]
)
@pytest.mark.parametrize("there", [True, False], ids=["replaced", "new"])
def test_after_an_error_the_old_file_stays(tmp_path, error, there):
    path = tmp_path / "a.json"
    if there:
        path.write_text(OLD)
    with pytest.raises(type(error)) as raised, written_whole(path) as part:
        part.write_text(NEW)
        raise error
    if not isinstance(error, KeyboardInterrupt):
        assert str(path) in str(raised.value) and str(error.args[-1]) in str(raised.value)
    assert left_in(tmp_path) == (["a.json"] if there else [])
    assert not there or path.read_text() == OLD


def test_a_whole_file_takes_its_place(tmp_path):
    (tmp_path / "behind.txt").write_text(OLD)
    (tmp_path / "behind.txt").chmod(0o640)
    (tmp_path / "link.txt").symlink_to("behind.txt")
    with written_whole(tmp_path / "link.txt") as part:
        part.write_text(NEW)
        assert (tmp_path / "behind.txt").read_text() == OLD and part.suffix == ".txt"
    assert (tmp_path / "link.txt").is_symlink() and (tmp_path / "behind.txt").read_text() == NEW
    assert (tmp_path / "behind.txt").stat().st_mode & 0o777 == 0o640
    with written_whole(tmp_path / "made" / "deep" / "a") as part:
        part.write_text(NEW)
    assert (tmp_path / "made" / "deep" / "a").read_text() == NEW and left_in(tmp_path / "made" / "deep") == ["a"]
    with written_whole(os.devnull) as part:
        assert str(part) == os.devnull


@pytest.mark.skipif(sys.platform == "win32", reason="no limit of the size of files there")
def test_a_full_disk_leaves_the_old_files(tmp_path):
    """Every writer of the command, where no file may grow beyond 2000 bytes."""
    script = """
        import resource, signal, sys
        from pathlib import Path
        import numpy as np
        from tracking_elysium.cli.output import write_csv, write_json, write_sheet
        from tracking_elysium.visualize import write_video

        class Source:
            def read(self, indices):
                return [noise[index] for index in indices]

        noise = np.random.default_rng(0).integers(0, 255, (12, 96, 128, 3), dtype=np.uint8)
        item = {"id": 0, "label": "a", "score": 0.5, "present": True}
        item["box"] = {"xmin": 1.0, "ymin": 1.0, "xmax": 9.0, "ymax": 9.0}
        results = [{"frame": n, "timestamp": None, "objects": [item] * 9} for n in range(12)]
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
        folder = Path(sys.argv[1])
        for name, write in {
            "a.mp4": lambda path: write_video(path, iter(noise), 10),
            "a.json": lambda path: write_json(str(path), {"frames": results}),
            "a.csv": lambda path: write_csv(path, results),
            "a.png": lambda path: write_sheet(path, Source(), results, "title"),
        }.items():
            try:
                write(folder / name)
                print(name, "was written")
            except OSError as error:
                print(name, "told" if name in str(error) else f"not named in {error}")
    """
    names = ["a.csv", "a.json", "a.mp4", "a.png"]
    for name in names:
        (tmp_path / name).write_text(OLD)
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script), tmp_path], capture_output=True, text=True)
    assert sorted(done.stdout.splitlines()) == [f"{name} told" for name in names], done.stderr[-2000:]
    assert left_in(tmp_path) == names and {(tmp_path / name).read_text() for name in names} == {OLD}
