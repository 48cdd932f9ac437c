"""Addresses of cameras: a sender in a process of its own, PyAV on both ends, and cameras that are not there."""

import socket
import subprocess
import sys
import types

import numpy as np
import pytest

from processing_elysium import pyav_reader
from processing_elysium.frames import open_video

# The sender tries until somebody listens; its frames get brighter by ten.
SENDER = """
import sys, time
import av, numpy as np
address, name = sys.argv[1:3]
for attempt in range(200):
    try:
        with av.open(address, "w", format=name, options={"rtsp_transport": "tcp"}) as container:
            stream = container.add_stream("libx264", rate=10)
            stream.width, stream.height, stream.pix_fmt, stream.options = 64, 48, "yuv420p", {"bf": "0", "g": "4"}
            for number in range(20):
                picture = np.full((48, 64, 3), 10 * number, np.uint8)
                container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
            container.mux(stream.encode())
        break
    except OSError:
        time.sleep(0.1)
"""


@pytest.fixture
def port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def send():
    """Starts senders; they end with the test."""
    running = []
    yield lambda *words: running.append(subprocess.Popen([sys.executable, "-c", SENDER, *words]))
    for process in running:
        process.kill()
        process.wait()


def brightness(frames):
    return [round(float(frame.mean()), -1) for frame in frames]


def test_frames_of_an_address(port, send):
    send(f"tcp://127.0.0.1:{port}", "mpegts")
    video = open_video(f"tcp://127.0.0.1:{port}?listen=1")
    assert (video.width, video.height, video.fps, video.num_frames) == (64, 48, 10.0, None)
    assert brightness(video) == [10.0 * number for number in range(20)]
    assert video.num_frames == 20


def test_frames_of_rtsp(port, send, monkeypatch):
    monkeypatch.setattr(pyav_reader, "_ADDRESS_OPTIONS", {"rtsp_flags": "listen", "listen_timeout": "60"})
    send(f"rtsp://127.0.0.1:{port}/camera", "rtsp")
    video = open_video(f"rtsp://127.0.0.1:{port}/camera")
    assert (video.width, video.height) == (64, 48)
    assert brightness(video.read(range(12))) == [10.0 * number for number in range(12)]


def test_an_address_that_does_not_answer(port):
    with pytest.raises(ValueError, match=r"`video`='rtsp://127.* gives no connection \(Connection refused\)") as error:
        open_video(f"rtsp://me:secret@127.0.0.1:{port}/camera")
    assert "secret" not in str(error.value)


class Capture:
    """Stands for `cv2.VideoCapture`."""

    def __init__(self, number):
        self._left = 3 if number == 1 else 0

    def isOpened(self):  # noqa: N802
        return self._left > 0

    def read(self):
        self._left -= 1
        return self._left >= 0, np.full((4, 6, 3), (1, 2, 3), np.uint8)  # blue, green, red

    def retrieve(self):
        raise AssertionError

    def get(self, _):
        return 30.0


def test_cameras_by_number(monkeypatch):
    monkeypatch.setitem(sys.modules, "cv2", types.SimpleNamespace(VideoCapture=Capture))
    video = open_video("camera:1")
    assert (video.width, video.height, video.fps) == (6, 4, 30.0)
    assert [frame[0, 0].tolist() for frame in video] == [[3, 2, 1]] * 3
    with pytest.raises(ValueError, match="'camera:0' cannot be opened; check that it is there"):
        open_video("camera:0")
    with pytest.raises(ValueError, match="'camera:front' names no camera; pass camera:0"):
        open_video("camera:front")
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(ValueError, match="'camera:1' needs OpenCV"):
        open_video("camera:1")
