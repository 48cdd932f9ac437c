"""The page in a real browser, around an oracle: `python -m pytest -m browser tests/demo`."""

import contextlib
import json
import os
import re
import shutil
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

import av
import pytest

pytest.importorskip("gradio_image_annotation")
gradio_client = pytest.importorskip("gradio_client")
sync_api = pytest.importorskip("playwright.sync_api")

from tracking_elysium.demo import handlers as handlers_module  # noqa: E402
from tracking_elysium.demo import launch, sessions  # noqa: E402
from tracking_elysium.demo.launch import Settings, running  # noqa: E402
from tracking_elysium.demo.limits import Limits  # noqa: E402

from .conftest import HEIGHT, NUM_FRAMES, WIDTH  # noqa: E402
from .hostile import harmless_files, hostile_files  # noqa: E402

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium")
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium: install it or set CHROMIUM"),
]
PATIENCE_MS = 180_000
BLOCKED_AT = 3  # the frame that the fixture `held` holds a job at
# How many controls are said to be in error
MARKED = "[...document.querySelectorAll('.block span.error')].filter(e => e.offsetParent).length"
LATER = 7  # the frame that a box is corrected in


@pytest.fixture
def address(engine, clip_file, monkeypatch):
    monkeypatch.setattr(handlers_module, "LIVE_EVERY_S", 0.0)
    monkeypatch.setattr(launch, "SWEEP_EVERY_S", 0.5)
    settings = Settings(
        ("oracle",), sample=clip_file, limits=Limits(upload_mb=1, seconds=30, frames=100, megapixels=4)
    )
    with running(settings, engine) as where:
        yield where


@pytest.fixture
def held(monkeypatch):
    """Jobs stop at a frame until the event is set."""
    go_on, draw = threading.Event(), handlers_module.looks.live_picture

    def draw_when_allowed(frame, objects, seconds, index):
        if index == BLOCKED_AT:
            assert go_on.wait(PATIENCE_MS / 1000)
        return draw(frame, objects, seconds, index)

    monkeypatch.setattr(handlers_module.looks, "live_picture", draw_when_allowed)
    yield go_on
    go_on.set()


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as playwright:
        yield playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])


@pytest.fixture
def picture(request):
    """Keep a screenshot of the page in the folder SCREENSHOTS, if there is one."""

    def take(page, name):
        if os.environ.get("SCREENSHOTS"):
            page.screenshot(path=Path(os.environ["SCREENSHOTS"]) / f"{name}.png", full_page=True)

    return take


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
    page.wait_for_function(  # what is said while files are written is not the end
        "([where, text]) => { const said = document.querySelector(where).innerText;"
        " return said.includes(text) && !said.includes('Writing the files'); }",
        arg=[where, text],
    )


def take_sample(page):
    page.click("#sample")
    says(page, f"{NUM_FRAMES} frames of")


def type_box(page, *box):
    for name, value in zip(("left", "top", "right", "bottom"), box, strict=True):
        page.fill(f"#box-{name} input", str(value))


def follow_a_box(page):
    take_sample(page)
    type_box(page, 4, 5, 20, 30)
    page.click("#add-box")
    says(page, "will be followed")


def go_to_frame(page, index):
    page.fill("#frame input[type=number]", str(index))
    page.press("#frame input[type=number]", "Enter")


def downloaded(page, name):
    with page.expect_download() as download:
        page.click(f"[id='get-{name}']")
    return download.value.path()


def boxes_in(page):
    """What the JSON that the page offers says of the first object: frame -> box."""
    frames = json.loads(downloaded(page, "tracks.json").read_text())["frames"]
    return {frame["frame"]: list(frame["objects"][0]["box"].values()) for frame in frames}


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


def test_from_upload_to_download(visit, clip_file, picture):
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
    picture(page, "upload_to_download")
    with av.open(str(downloaded(page, "tracked.mp4"))) as video:
        assert sum(1 for _ in video.decode(video=0)) == NUM_FRAMES
    assert sorted(boxes_in(page)) == list(range(NUM_FRAMES))


def test_a_correction_in_a_later_frame(visit, picture):
    page = visit()
    follow_a_box(page)
    page.click("#track")
    says(page, "Done.")
    before = boxes_in(page)
    page.locator("#selected label").first.click()
    go_to_frame(page, LATER)
    page.wait_for_function(  # the editor shows where the object is in that frame
        "left => document.querySelector('#box-left input').value === left", arg=str(round(before[LATER][0]))
    )
    page.wait_for_timeout(1000)
    draw_box(page, 40, 10, 60, 40)
    page.wait_for_function("Math.abs(document.querySelector('#box-left input').value - 40) <= 1")
    page.click("#correct")
    says(page, f"is corrected in frame {LATER}")
    picture(page, "corrected")
    page.click("#track")
    says(page, f"{NUM_FRAMES - LATER} boxes in")
    after = boxes_in(page)
    assert after[LATER] == pytest.approx([40, 10, 60, 40], abs=1)
    assert {at: after[at] for at in range(LATER)} == {at: before[at] for at in range(LATER)}


def test_a_cancelled_job_keeps_what_it_has_and_goes_on(visit, held, picture):
    page = visit()
    follow_a_box(page)
    page.click("#track")
    says(page, f"Frame {BLOCKED_AT - 1}, {BLOCKED_AT} of {NUM_FRAMES} boxes")
    page.click("#stop")
    says(page, "Stopping")
    held.set()
    says(page, "Stopped; Track goes on from here.")
    picture(page, "stopped")
    assert max(boxes_in(page)) < NUM_FRAMES - 1
    page.click("#track")
    says(page, "Done.")
    assert sorted(boxes_in(page)) == list(range(NUM_FRAMES))


def test_a_job_that_waits_for_another_can_be_cancelled(visit, held):
    ann, bob = visit(), visit()
    follow_a_box(ann)
    follow_a_box(bob)
    ann.click("#track")
    says(ann, f"Frame {BLOCKED_AT - 1}")
    bob.click("#track")
    says(bob, "Waiting for the model")
    bob.click("#stop")
    says(bob, "Stopping")
    held.set()
    says(bob, "Stopped before it began")
    says(ann, "Done.")


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


def test_reload_in_the_middle_frees_the_model_and_the_files(visit, held, monkeypatch):
    monkeypatch.setattr(sessions, "AWAY_S", 0.5)
    page = visit()
    follow_a_box(page)
    page.click("#track")
    says(page, f"Frame {BLOCKED_AT - 1}")
    (before,) = visitors()
    page.reload()
    held.set()
    page.wait_for_selector("#sample")
    assert "No object yet" in page.inner_text("#legend")
    take_sample(page)
    page.fill("#words textarea", "a swan")
    page.click("#add-words")
    says(page, "will be looked for")
    page.click("#track")
    says(page, "Done.")
    wait_until(lambda: before not in visitors())
    assert len(visitors()) == 1


def test_a_job_that_outlives_its_page_leaves_no_files(address, held, monkeypatch):
    monkeypatch.setattr(sessions, "AWAY_S", 4.0)
    lost, lose = threading.Event(), sessions.Sessions.lose
    monkeypatch.setattr(sessions.Sessions, "lose", lambda *args: (lose(*args), lost.set()))
    client = gradio_client.Client(address, verbose=False)
    client.predict(api_name="/open_sample")
    client.predict(0, 4, 5, 20, 30, "", "forward", api_name="/add_box")
    next(iter(client.submit(None, 0, api_name="/track")))
    assert len(visitors()) == 1
    client.close()
    assert lost.wait(PATIENCE_MS / 1000)  # seconds: Gradio looks now and then whether a page is there
    held.set()  # the job ends while its visitor is still waited for
    wait_until(lambda: not visitors())


def wait_until(true):
    end = time.monotonic() + PATIENCE_MS / 1000
    while not true():
        assert time.monotonic() < end
        time.sleep(0.2)


def visitors():
    return list(Path(os.environ["GRADIO_TEMP_DIR"], "visitors").iterdir())


def test_hostile_uploads_get_a_sentence_and_the_page_stays_up(visit, tmp_path, picture):
    page, told = visit(), {}
    for what, path in hostile_files(tmp_path).items():
        page.click("#stop")
        says(page, "Nothing is running.")
        upload(page, path)
        if what == "more bytes than allowed":  # which Gradio refuses before it is there
            page.wait_for_selector(".toast-body")
        else:
            page.wait_for_function("!document.querySelector('#status').innerText.includes('Nothing is running.')")
            told[what] = page.inner_text("#status")
            page.wait_for_function(f"{MARKED} === 0")
        if what == "SVG with a script":
            picture(page, "refused")
        page.evaluate("document.querySelectorAll('.toast-close').forEach(button => button.click())")
        page.wait_for_selector(".toast-body", state="detached")
        assert page.title() != "hacked"
    assert len(told) == 19
    for what, text in told.items():
        assert text.endswith(".") and len(text) > 30, (what, text)
        assert not re.search(r"\d frames of|/tmp|Traceback", text), (what, text)
    for path in harmless_files(tmp_path).values():
        upload(page, path)
        says(page, "frames of")
        assert page.locator("#status img").count() == 0
        page.click("#video [aria-label='Clear']")
        says(page, "No video")


def upload(page, path):
    """Choose a file; the page shows where to drop one as long as it has no video."""
    page.wait_for_selector("#video input[type=file]", state="attached")
    page.set_input_files("#video input[type=file]", str(path))


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
