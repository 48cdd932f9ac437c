"""The page: what stands where. `events.py` connects it to the steps."""

from __future__ import annotations

from typing import Any

import gradio as gr
from gradio_image_annotation import image_annotator

from . import looks
from .events import Events
from .exports import NAMES
from .handlers import Handlers
from .objects import DIRECTIONS

TITLE = "Elysium: objects in video, by box or by words"
INTRO = f"""# {TITLE}
Show the model an object (a box in any frame) or name it; it writes the object's box for every frame, as text. There is
no detector and no tracker behind it."""
CSS = """
.swatch {display: inline-block; width: 1em; height: 1em; margin-right: .5em; border: 1px solid #888}
.objects {list-style: none; padding: 0} .objects li {overflow-wrap: anywhere}
#status progress {vertical-align: middle; width: 10em; max-width: 40%}
@media (max-width: 640px) {.gradio-container {padding: 8px !important}}
"""
# A screen reader speaks the status line when it changes, and knows what the picture on which boxes are drawn is.
ON_LOAD = """() => {
  const line = document.querySelector('#status');
  if (line) { line.setAttribute('role', 'status'); line.setAttribute('aria-live', 'polite'); }
  const name = (element, text) => { element.setAttribute('role', 'img'); element.setAttribute('aria-label', text); };
  const canvases = () => document.querySelectorAll('#editor canvas').forEach(c =>
    name(c, 'The frame. Draw a box with the mouse, or type left, top, right and bottom below.'));
  canvases();
  new MutationObserver(canvases).observe(document.body, {childList: true, subtree: true});
  document.documentElement.lang = 'en';
}"""


def build_page(handlers: Handlers) -> gr.Blocks:
    """Build the page.

    Args:
        handlers: the steps.

    Returns:
        The Blocks, not yet launched; `look()` goes into `launch`.
    """
    with gr.Blocks(title=TITLE, analytics_enabled=False) as page:
        controls = Controls(handlers)
        Events(controls, handlers).connect(page)
    return page


def look() -> dict[str, Any]:
    """Give the keywords of `launch` that say how the page looks: system fonts, nothing is loaded from elsewhere."""
    font = ["system-ui", "sans-serif"]
    theme = gr.themes.Default(font=font, font_mono=["ui-monospace", "monospace"])
    return {"theme": theme, "css": CSS, "js": ON_LOAD}


class Controls:
    """The controls, in the order of the page; made inside a `gr.Blocks`.

    Args:
        handlers: knows the models, the sample and the limits.
    """

    def __init__(self, handlers: Handlers) -> None:
        self.do = handlers
        gr.Markdown(INTRO)
        self.abilities = gr.Markdown(self.do.abilities(None))
        self._model()
        with gr.Row():
            with gr.Column(min_width=320):
                self._video()
                self._editor()
            with gr.Column(min_width=320):
                self._work()
                self._corrections()
        self._results()
        self._words()
        gr.Markdown(self.do.limits.sentence())

    def _model(self) -> None:
        names = self.do.engine.models.names
        choices = [(name.rstrip("/").rpartition("/")[2] or name, name) for name in names]
        self.model = gr.Dropdown(choices, value=names[0], label="Model", visible=len(names) > 1)

    def _video(self) -> None:
        gr.Markdown("## 1. A video")
        self.video = gr.Video(
            label="Upload or record",
            sources=["upload", "webcam"],
            webcam_options=gr.WebcamOptions(mirror=False),
            include_audio=True,  # else Gradio would have to cut the sound off, which needs a program
            height=280,
            elem_id="video",
        )
        self.sample = gr.Button("Take the sample video", visible=self.do.sample is not None, elem_id="sample")

    def _editor(self) -> None:
        gr.Markdown("## 2. What to follow")
        self.index = gr.Slider(0, 1, value=0, step=1, label="Frame", interactive=True, elem_id="frame")
        self.editor = image_annotator(
            label="Draw a box around the object",
            single_box=True,
            disable_edit_boxes=True,
            sources=[],
            image_type="filepath",
            show_download_button=False,
            show_share_button=False,
            show_clear_button=False,
            show_remove_button=True,
            enable_keyboard_shortcuts=False,
            boxes_alpha=0.2,
            elem_id="editor",
        )
        with gr.Row():
            names = ("left", "top", "right", "bottom")
            self.box = [
                gr.Number(label=f"Box: {name} (px)", precision=0, minimum=0, min_width=70, elem_id=f"box-{name}")
                for name in names
            ]
        with gr.Row():
            self.name = gr.Textbox(label="Name (optional)", max_lines=1, min_width=120, elem_id="name")
            self.direction = gr.Radio(list(DIRECTIONS), value="forward", label="Direction", min_width=200)
        self.add_box = gr.Button("Follow this box", variant="primary", elem_id="add-box")
        self.text = gr.Textbox(
            label="Or in words, one object a line, looked for from this frame on", lines=2, elem_id="words"
        )
        self.add_words = gr.Button("Follow these words", elem_id="add-words")

    def _work(self) -> None:
        gr.Markdown("## 3. Track")
        self.legend = gr.HTML(looks.NO_OBJECTS, elem_id="legend")
        with gr.Row():
            self.track = gr.Button("Track", variant="primary", elem_id="track", min_width=100)
            self.stop = gr.Button("Stop", variant="stop", elem_id="stop", min_width=100)
        self.status = gr.HTML(looks.status("Ready."), elem_id="status")
        self.live = gr.Image(
            label="As it comes", interactive=False, format="jpeg", buttons=[], elem_id="live", alt_text="Latest frame"
        )

    def _corrections(self) -> None:
        gr.Markdown(
            "**Not right?** Choose the object and the frame, move its box there (or draw it anew), press Correct, "
            "then Track: it goes on from there."
        )
        self.selected = gr.Radio([], label="Selected object", elem_id="selected")
        with gr.Row():
            self.correct = gr.Button("Correct its box in this frame", elem_id="correct", min_width=120)
            self.remove = gr.Button("Remove it", elem_id="remove", min_width=80)

    def _results(self) -> None:
        gr.Markdown("## 4. Result")
        self.player = gr.Video(label="Boxes on the video", interactive=False, elem_id="player", height=360)
        with gr.Row():
            self.downloads = [
                gr.DownloadButton(kind, interactive=False, size="sm", min_width=90, elem_id=f"get-{name}")
                for kind, name in NAMES.items()
            ]
        with gr.Row():
            options: dict[str, Any] = {"color": "object", "min_width": 300, "height": 260}
            self.scores = gr.LinePlot(x="seconds", y="score", title="Score", y_lim=[0, 1], **options)
            self.paths = gr.ScatterPlot(x="x", y="y", title="Path of the centers (pixels)", **options)
        gr.Markdown(
            "A score says how sure the model is of a box's digits, not how likely the object is the right one; 1 is "
            "a box of yours, 0 one that only bridges a gap."
        )
        with gr.Accordion("All boxes as a table", open=False):
            self.table = gr.Dataframe(headers=looks.TABLE_COLUMNS, datatype="str", interactive=False, wrap=True)

    def _words(self) -> None:
        gr.Markdown("## 5. Describe and ask")
        with gr.Row():
            with gr.Column(min_width=300):
                self.describe = gr.Button("Describe the selected object in this frame", elem_id="describe")
                self.description = gr.Textbox(label="Description", interactive=False, lines=2, elem_id="description")
            with gr.Column(min_width=300):
                self.question = gr.Textbox(label="Question about the video", max_lines=3, elem_id="question")
                self.ask = gr.Button("Ask", elem_id="ask")
                self.answer = gr.Textbox(label="Answer", interactive=False, lines=2, elem_id="answer")
