"""The page in a real browser, around an oracle: `python -m pytest -m browser tests/demo`."""

import contextlib
import json
import os
import shutil
import urllib.error
import urllib.request

import pytest

pytest.importorskip("gradio_image_annotation")
sync_api = pytest.importorskip("playwright.sync_api")

from tracking_elysium.demo import handlers as handlers_module  # noqa: E402
from tracking_elysium.demo.launch import Settings, running  # noqa: E402
from tracking_elysium.demo.limits import Limits  # noqa: E402

from .conftest import HEIGHT, NUM_FRAMES, WIDTH  # noqa: E402
from .hostile import harmless_files, hostile_files  # noqa: E402

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium")
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium: install it or set CHROMIUM"),
]
PATIENCE_MS = 90_000


@pytest.fixture
def address(engine, clip_file, monkeypatch):
    monkeypatch.setattr(handlers_module, "LIVE_EVERY_S", 0.0)
    settings = Settings(
        ("oracle",), sample=clip_file, limits=Limits(upload_mb=1, seconds=30, frames=100, megapixels=4)
    )
    with running(settings, engine) as where:
        yield where


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as playwright:
        yield playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])


@pytest.fixture
def visit(browser, address):
    """Open the page as one more visitor."""
    with contextlib.ExitStack() as stack:

        def come(**look):
            context = browser.new_context(**look)
            stack.callback(context.close)
            page = context.new_page()
            page.set_default_timeout(PATIENCE_MS)
            page.goto(address)
            page.wait_for_selector("#sample")
            return page

        yield come


def says(page, text, where="#status"):
    page.wait_for_function(
        "([where, text]) => document.querySelector(where).innerText.includes(text)", arg=[where, text]
    )


def take_sample(page):
    page.click("#sample")
    says(page, f"{NUM_FRAMES} frames of")


def type_box(page, *box):
    for name, value in zip(("left", "top", "right", "bottom"), box, strict=True):
        page.fill(f"#box-{name} input", str(value))


def draw_box(page, x1, y1, x2, y2):
    """Draw with the mouse, in pixels of the video."""
    page.wait_for_selector("#editor canvas").scroll_into_view_if_needed()
    canvas = page.query_selector("#editor canvas").bounding_box()
    scale = min(canvas["height"] / HEIGHT, canvas["width"] / WIDTH)
    left = canvas["x"] + (canvas["width"] - WIDTH * scale) / 2
    page.mouse.move(left + x1 * scale, canvas["y"] + y1 * scale)
    page.mouse.down()
    page.mouse.move(left + x2 * scale, canvas["y"] + y2 * scale, steps=6)
    page.mouse.up()


def test_from_upload_to_download(visit, clip_file):
    page = visit()
    page.set_input_files("#video input[type=file]", str(clip_file))
    says(page, f"{NUM_FRAMES} frames of {WIDTH} x {HEIGHT} pixels")
    page.wait_for_timeout(1000)
    draw_box(page, 4, 5, 20, 30)
    page.wait_for_function("document.querySelector('#box-left input').value !== ''")
    drawn = [float(page.input_value(f"#box-{name} input")) for name in ("left", "top", "right", "bottom")]
    assert drawn == pytest.approx([4, 5, 20, 30], abs=1)
    page.click("#add-box")
    says(page, "will be followed from frame 0")
    page.fill("#words textarea", "<img src=x onerror=\"document.title='hacked'\">")
    page.click("#add-words")
    says(page, "will be looked for")
    page.click("#track")
    says(page, "Done.")
    assert page.title() != "hacked" and page.locator("#legend img, #status img").count() == 0
    page.wait_for_selector("#player video")
    for name in ("tracks.json", "tracked.mp4"):
        with page.expect_download() as download:
            page.click(f"[id='get-{name}']")
        path = download.value.path()
        assert path.stat().st_size > 500
        if name.endswith("json"):
            assert len(json.loads(path.read_text())["frames"]) == NUM_FRAMES
    type_box(page, 30, 20, 50, 40)
    page.locator("#selected label").first.click()
    page.wait_for_timeout(1500)
    type_box(page, 30, 20, 50, 40)
    page.click("#correct")
    says(page, "is corrected in frame 0")
    page.click("#track")
    says(page, f"{NUM_FRAMES} boxes in")


def test_two_visitors_at_once(visit):
    ann, bob = visit(), visit()
    for page in (ann, bob):
        take_sample(page)
    type_box(ann, 4, 5, 20, 30)
    ann.click("#add-box")
    says(ann, "will be followed")
    bob.click("#track")
    bob.wait_for_selector("text=nothing to track")
    for page, text in ((ann, "a swan"), (bob, "a goose")):
        page.fill("#words textarea", text)
        page.click("#add-words")
        says(page, "will be looked for")
    ann.click("#track")
    bob.click("#track")
    says(ann, "Done.")
    says(bob, "Done.")
    assert "goose" not in ann.inner_text("#legend") and "swan" not in bob.inner_text("#legend")


def test_reload_in_the_middle_frees_the_model(visit, engine, monkeypatch):
    page = visit()
    take_sample(page)
    type_box(page, 4, 5, 20, 30)
    page.click("#add-box")
    says(page, "will be followed")
    page.click("#track")
    page.reload()
    page.wait_for_selector("#sample")
    assert "No object yet" in page.inner_text("#legend")
    take_sample(page)
    page.fill("#words textarea", "a swan")
    page.click("#add-words")
    says(page, "will be looked for")
    page.click("#track")
    says(page, "Done.")


def test_hostile_uploads_get_a_sentence_and_the_page_stays_up(visit, tmp_path, address):
    page = visit()
    for what, path in hostile_files(tmp_path).items():
        page.set_input_files("#video input[type=file]", str(path))
        page.wait_for_selector(".toast-body, .toast-wrap", timeout=PATIENCE_MS)
        assert "frames of" not in page.inner_text("#status"), what
        page.goto(address)
        page.wait_for_selector("#sample")
    for path in harmless_files(tmp_path).values():
        page.goto(address)
        page.wait_for_selector("#sample")
        page.set_input_files("#video input[type=file]", str(path))
        says(page, "frames of")
        assert page.locator("#status img").count() == 0


@pytest.mark.parametrize("path", ["/etc/passwd", "../../etc/passwd", "/proc/self/environ"])
def test_no_other_file_is_served(address, path):
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(f"{address.rstrip('/')}/gradio_api/file={path}")
    assert refused.value.code in (403, 404)


def test_phone_and_dark(visit):
    page = visit(viewport={"width": 390, "height": 844}, color_scheme="dark")
    take_sample(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert page.evaluate("document.body.classList.contains('dark')")
    unnamed = page.evaluate(
        "[...document.querySelectorAll('button, input, textarea')].filter(e => e.offsetParent && !(e.innerText.trim()"
        " || e.getAttribute('aria-label') || e.title || (e.labels && e.labels.length))).map(e => e.outerHTML)"
    )
    assert unnamed == []
