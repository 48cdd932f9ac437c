"""README's moving picture: every frame, for as long as in the video."""

import pytest
from PIL import Image

from scripts.moving_picture import main
from tests.tracking.media import write_mp4


@pytest.mark.parametrize("every, frames, lasts", [(1, 6, 100), (4, 2, 400)])
def test_a_video_becomes_a_picture_that_moves(tmp_path, capsys, every, frames, lasts):
    video = write_mp4(tmp_path / "clip.mp4", 6, 64, 48)  # 10 frames per second
    picture = tmp_path / "clip.webp"
    assert main([str(video), str(picture), "--width", "32", "--every", str(every)]) == 0
    with Image.open(picture) as found:
        assert (found.n_frames, found.size) == (frames, (32, 24))
        found.seek(0)
        found.load()
        assert found.info["duration"] == lasts
    assert f"{frames} frames" in capsys.readouterr().out


def test_another_ending_is_refused_and_nothing_is_written(tmp_path):
    video = write_mp4(tmp_path / "clip.mp4", 2, 64, 48)
    with pytest.raises(ValueError, match=".webp"):
        main([str(video), str(tmp_path / "clip.gif")])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clip.mp4"]
