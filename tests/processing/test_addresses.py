"""Videos behind http addresses, as people type them, and downloads that fail."""

import functools
import http.server
import threading

import pytest

from processing_elysium.frames import open_video
from tests.processing.tiny_videos import encode, number_of


def numbers(frames) -> list[int]:
    return [number_of(frame) for frame in frames]


class Server(http.server.SimpleHTTPRequestHandler):
    """Files of a folder; one answer that is cut short, and one that is no HTTP."""

    def log_message(self, *arguments):
        pass

    def do_GET(self):  # noqa: N802 - the library's name
        if self.path == "/short":
            self.send_response(200)
            self.send_header("Content-Length", "1000")
            self.end_headers()
            self.wfile.write(b"abc")
        elif self.path == "/nonsense":
            self.wfile.write(b"what?\r\n\r\n")
        else:
            super().do_GET()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("served")
    encode(folder / "ok.mp4", count=24)
    return folder


@pytest.fixture
def address(folder):
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Server, directory=str(folder))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


def test_url(folder, address):
    assert numbers(open_video(address + "ok.mp4").read([3, 4])) == [3, 4]
    with pytest.raises(ValueError, match="is larger than 0 MiB; download it yourself"):
        open_video(address + "ok.mp4", max_bytes=100)


@pytest.mark.parametrize("name", ["a b.mp4", "schwäne auf dem see.mp4", "50%25.mp4", "a+b.mp4?x=ü y&z=1"])
def test_urls_as_people_type_them(folder, address, name):
    stored = name.split("?")[0].replace("%25", "%")
    (folder / stored).write_bytes((folder / "ok.mp4").read_bytes())
    assert numbers(open_video(address + name).read([3])) == [3]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("nope.mp4", "404"),
        ("short", "3 of 1000 bytes came"),
        ("nonsense", "could not be downloaded"),
        ("\x00", "could not be downloaded|404|400"),
    ],
)
def test_failed_downloads(address, name, words):
    with pytest.raises(ValueError, match=words):
        open_video(address + name)


@pytest.mark.parametrize("url", ["http://", "http://[::1", "http://127.0.0.1:port/a.mp4", "http://ü.invalid/a.mp4"])
def test_addresses_that_are_none(url):
    with pytest.raises(ValueError, match="could not be downloaded"):
        open_video(url)
