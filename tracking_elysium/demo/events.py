"""Which step of `handlers.py` each control of the page takes, and what the page shows of what comes back."""

from __future__ import annotations

import functools
import html
import inspect
import logging
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import gradio as gr

from . import looks
from .exports import NAMES
from .handlers import Handlers, Outcome, Shown
from .sessions import Session

if TYPE_CHECKING:
    from .page import Controls

_LOG = logging.getLogger(__name__)
_SENTENCES = (ValueError, OSError, gr.Error)
# Boxes of the editor are in pixels of the screen until they are divided by its scale.
BOX_TO_NUMBERS = """(value) => {
  const boxes = (value && value.boxes) || [];
  if (!boxes.length) return [null, null, null, null];
  const box = boxes[boxes.length - 1], scale = box.scaleFactor || 1;
  return [box.xmin, box.ymin, box.xmax, box.ymax].map(side => Math.round(side / scale));
}"""
NO_RESULT: list[Any] = [None] * 4  # player, two plots, table


def told(step: Callable[..., Any]) -> Callable[..., Any]:
    """Show what a visitor did wrong as a sentence; anything else is logged, and the visitor told that it was.

    Gradio shows messages as HTML, so they are escaped.
    """

    def sentence(error: BaseException) -> gr.Error:
        if isinstance(error, _SENTENCES):
            return gr.Error(html.escape(str(error)), print_exception=False)
        _LOG.exception("a step of the demo failed", exc_info=error)
        kind = type(error).__name__
        return gr.Error(f"Something went wrong on the server ({kind}); it was logged.", print_exception=False)

    if inspect.isgeneratorfunction(step):

        @functools.wraps(step)
        def guarded_stream(*args: Any) -> Iterator[Any]:
            try:
                yield from step(*args)
            except Exception as error:
                raise sentence(error) from None

        return guarded_stream

    @functools.wraps(step)
    def guarded(*args: Any) -> Any:
        try:
            return step(*args)
        except Exception as error:
            raise sentence(error) from None

    return guarded


class Events:
    """What connects controls and steps.

    Args:
        controls: of the page.
        handlers: the steps.
    """

    def __init__(self, controls: Controls, handlers: Handlers) -> None:
        self.on, self.do = controls, handlers
        self.result = [controls.player, controls.scores, controls.paths, controls.table, *controls.downloads]
        self.objects = [controls.selected, controls.legend, controls.status]
        self.editor = [controls.editor, *controls.box]
        self.limits = {"concurrency_limit": handlers.limits.concurrency, "concurrency_id": "model"}

    def connect(self, page: gr.Blocks) -> None:
        """Connect everything."""
        self._video()
        self._frames()
        self._objects()
        self._tracking()
        self._words()

        def left(request: gr.Request) -> None:
            self.do.sessions.lose(request.session_hash)

        page.unload(left)

    def _video(self) -> None:
        on = self.on
        fresh = [on.index, *self.editor, *self.objects, on.live, *self.result]
        opening = {"concurrency_limit": 2, "concurrency_id": "open"}

        @told
        def open_video(upload: str | None, request: gr.Request) -> list[Any]:
            return self._fresh(self.do.open_upload(request.session_hash, upload), request)

        @told
        def open_sample(request: gr.Request) -> list[Any]:
            return [None, *self._fresh(self.do.open_sample(request.session_hash), request)]

        @told
        def forget(request: gr.Request) -> list[Any]:
            return self._fresh(self.do.forget(request.session_hash), request)

        gr.on(
            [on.video.upload, on.video.stop_recording], open_video, on.video, fresh, api_name="open_video", **opening
        )
        on.sample.click(open_sample, None, [on.video, *fresh], api_name="open_sample", **opening)
        on.video.clear(forget, None, fresh, api_visibility="private")

    def _frames(self) -> None:
        on = self.on
        quiet: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}

        @told
        def show(index: float, selected: int | None, request: gr.Request) -> list[Any]:
            return editor_values(self.do.frame(request.session_hash, index, selected))

        @told
        def show_typed(
            index: float, x1: float | None, y1: float | None, x2: float | None, y2: float | None, request: gr.Request
        ) -> Any:
            shown = self.do.frame(request.session_hash, index, None)
            if x1 is None or y1 is None or x2 is None or y2 is None:
                return editor_value(shown)
            return editor_value(Shown(shown.picture, shown.index, (x1, y1, x2, y2)))

        gr.on(
            [on.index.input, on.selected.input],
            show,
            [on.index, on.selected],
            self.editor,
            trigger_mode="always_last",
            **quiet,
        )
        on.editor.change(None, on.editor, on.box, js=BOX_TO_NUMBERS, **quiet)
        gr.on([number.submit for number in on.box], show_typed, [on.index, *on.box], on.editor, **quiet)

    def _objects(self) -> None:
        on = self.on

        @told
        def add_box(
            index: float,
            x1: float | None,
            y1: float | None,
            x2: float | None,
            y2: float | None,
            name: str | None,
            direction: str,
            request: gr.Request,
        ) -> list[Any]:
            one = self.do.add_box(request.session_hash, index, [x1, y1, x2, y2], name, direction)
            return [
                None,
                *self._listed(request, one.id, f"{one.label} will be followed from frame {one.start_frame}."),
            ]

        @told
        def add_words(text: str | None, index: float, request: gr.Request) -> list[Any]:
            added = self.do.add_words(request.session_hash, text, index)
            said = ", ".join(one.label for one in added)
            return [None, *self._listed(request, added[-1].id, f"{said} will be looked for.")]

        @told
        def remove(selected: int | None, request: gr.Request) -> list[Any]:
            self.do.remove(request.session_hash, selected)
            return self._listed(request, None, "Removed.")

        @told
        def correct(
            selected: int | None,
            index: float,
            x1: float | None,
            y1: float | None,
            x2: float | None,
            y2: float | None,
            request: gr.Request,
        ) -> list[Any]:
            one = self.do.correct(request.session_hash, selected, index, [x1, y1, x2, y2])
            said = f"{one.label} is corrected in frame {index:.0f}; Track goes on from there."
            return self._listed(request, one.id, said)

        asked = [on.index, *on.box, on.name, on.direction]
        on.add_box.click(add_box, asked, [on.name, *self.objects], api_name="add_box")
        gr.on([on.add_words.click], add_words, [on.text, on.index], [on.text, *self.objects], api_name="add_words")
        on.remove.click(remove, on.selected, self.objects, api_name="remove")
        on.correct.click(correct, [on.selected, on.index, *on.box], self.objects, api_name="correct")

    def _tracking(self) -> None:
        on = self.on

        @told
        def track(model: str | None, selected: int | None, request: gr.Request) -> Iterator[list[Any]]:
            for outcome in self.do.track(request.session_hash, model):
                yield self._outcome(outcome, selected, request)

        @told
        def wait(request: gr.Request) -> str:
            return self.do.wait(request.session_hash)

        @told
        def stop(request: gr.Request) -> str:
            return self.do.stop(request.session_hash)

        shown = [*self.objects, on.live, *self.result]
        asked = on.track.click(wait, None, on.status, queue=False, show_progress="hidden", api_visibility="private")
        asked.then(track, [on.model, on.selected], shown, api_name="track", show_progress="hidden", **self.limits)
        on.stop.click(stop, None, on.status, api_name="stop", queue=False)

    def _words(self) -> None:
        on = self.on

        @told
        def describe(model: str | None, selected: int | None, index: float, request: gr.Request) -> str:
            return self.do.describe(request.session_hash, model, selected, index)

        @told
        def ask(model: str | None, question: str | None, request: gr.Request) -> str:
            return self.do.ask(request.session_hash, model, question)

        @told
        def abilities(model: str | None) -> str:
            return self.do.abilities(model)

        @told
        def here(request: gr.Request) -> None:
            self.do.sessions.of(request.session_hash)

        pressed: dict[str, Any] = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
        gr.on([on.describe.click], here, None, None, **pressed).then(
            describe, [on.model, on.selected, on.index], on.description, api_name="describe", **self.limits
        )
        gr.on([on.ask.click, on.question.submit], here, None, None, **pressed).then(
            ask, [on.model, on.question], on.answer, api_name="ask", **self.limits
        )
        on.model.input(abilities, on.model, on.abilities, api_visibility="private", **self.limits)

    # ----------------------------------------------------------------------------------------------------------
    # values for the controls
    # ----------------------------------------------------------------------------------------------------------
    def _fresh(self, session: Session, request: gr.Request) -> list[Any]:
        """Everything as it is after another video was taken, or none."""
        empty = [*NO_RESULT, *(gr.update(value=None, interactive=False) for _ in NAMES)]
        if session.clip is None:
            bare = [gr.update(maximum=1, value=0), None, *[None] * 4]
            return [*bare, *self._listed(request, None, "No video."), None, *empty]
        clip = session.clip
        shown = self.do.frame(request.session_hash, 0, None)
        rate = "" if clip.fps is None else f", {clip.fps:.4g} frames per second"
        said = f"{clip.num_frames} frames of {clip.width} x {clip.height} pixels{rate}. Draw a box, or use words."
        slider = gr.update(maximum=max(clip.num_frames - 1, 1), value=0)
        return [slider, *editor_values(shown), *self._listed(request, None, said), None, *empty]

    def _listed(self, request: gr.Request, selected: int | None, said: str) -> list[Any]:
        """The list of objects, the legend and the status line."""
        return [*self._list(request, selected), looks.status(said)]

    def _list(self, request: gr.Request, selected: int | None) -> list[Any]:
        session = self.do.sessions.of(request.session_hash)
        choices = [(name, number) for number, name in looks.names_of(session.objects).items()]
        kept = selected if selected in [number for _, number in choices] else None
        length = 0 if session.clip is None else session.clip.num_frames
        return [gr.update(choices=choices, value=kept), looks.legend(session.objects, length)]

    def _outcome(self, outcome: Outcome, selected: int | None, request: gr.Request) -> list[Any]:
        """What a job shows: only picture and status on the way, everything at its end."""
        if outcome.results is None:
            picture = gr.skip() if outcome.picture is None else outcome.picture
            return [gr.skip(), gr.skip(), outcome.status, picture, *[gr.skip()] * len(self.result)]
        session = self.do.sessions.of(request.session_hash)
        head = [*self._list(request, selected), outcome.status, gr.skip()]
        files = [gr.update(value=_path(outcome, kind), interactive=kind in outcome.files) for kind in NAMES]
        if not outcome.results or session.clip is None:
            return [*head, *NO_RESULT, *files]
        rows, colors = looks.series(session.objects, outcome.results), looks.colors(session.objects)
        return [
            *head,
            _path(outcome, "mp4"),
            gr.LinePlot(value=rows, x="seconds", y="score", color="object", color_map=colors),
            gr.ScatterPlot(
                value=rows,
                x="x",
                y="y",
                color="object",
                color_map=colors,
                x_lim=[0, session.clip.width],
                y_lim=[session.clip.height, 0],  # as in the picture: down is more
            ),
            looks.table(session.objects, outcome.results),
            *files,
        ]


def editor_value(shown: Shown) -> dict[str, Any]:
    """Give a frame and its box as the box editor takes them."""
    boxes = []
    if shown.box is not None:
        sides = zip(("xmin", "ymin", "xmax", "ymax"), (round(side) for side in shown.box), strict=True)
        red, green, blue = (int(shown.color[at : at + 2], 16) for at in (1, 3, 5))
        boxes.append({**dict(sides), "color": (red, green, blue), "label": ""})
    return {"image": shown.picture, "boxes": boxes}


def editor_values(shown: Shown) -> list[Any]:
    """Give the values of the box editor and of the four numbers beside it."""
    numbers = [None] * 4 if shown.box is None else [round(side) for side in shown.box]
    return [editor_value(shown), *numbers]


def _path(outcome: Outcome, kind: str) -> str | None:
    return str(outcome.files[kind]) if kind in outcome.files else None
