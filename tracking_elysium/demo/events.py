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

    def _told(self, step: Callable[..., Any]) -> Callable[..., Any]:
        """Note and raise what a visitor did wrong as a sentence; anything else is logged, and it is said that it was.

        Gradio shows messages as HTML, so they are escaped.

        Args:
            step: whose last argument is the request.
        """

        def sentence(error: BaseException, request: gr.Request) -> gr.Error:
            if isinstance(error, _SENTENCES):
                text = str(error)
            else:
                _LOG.exception("a step of the demo failed", exc_info=error)
                text = f"Something went wrong on the server ({type(error).__name__}); it was logged."
            self.do.sessions.note(request.session_hash, text)
            return gr.Error(html.escape(text), print_exception=False)

        if inspect.isgeneratorfunction(step):

            @functools.wraps(step)
            def guarded_stream(*args: Any) -> Iterator[Any]:
                try:
                    yield from step(*args)
                except Exception as error:
                    raise sentence(error, args[-1]) from None

            return guarded_stream

        @functools.wraps(step)
        def guarded(*args: Any) -> Any:
            try:
                return step(*args)
            except Exception as error:
                raise sentence(error, args[-1]) from None

        return guarded

    def _explain(self, asked: Any, outputs: list[Any]) -> None:
        """Let the status line say why a step failed; Gradio's message goes after some seconds.

        Gradio marks every control that the step would have changed with "Error"; a step after it that changes the
        same controls takes the marks away.

        Args:
            asked: the event of the step.
            outputs: what the step would have changed.
        """
        marked = [one for one in outputs if one is not self.on.status]

        def why(request: gr.Request) -> list[Any]:
            said = self.do.sessions.of(request.session_hash).told
            return [*[gr.skip()] * len(marked), looks.status(said)]

        asked.failure(why, None, [*marked, self.on.status], queue=False, api_visibility="private")

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

        @self._told
        def open_video(upload: str | None, request: gr.Request) -> list[Any]:
            return self._fresh(self.do.open_upload(request.session_hash, upload), request)

        @self._told
        def open_sample(request: gr.Request) -> list[Any]:
            return [None, *self._fresh(self.do.open_sample(request.session_hash), request)]

        @self._told
        def forget(request: gr.Request) -> list[Any]:
            return self._fresh(self.do.forget(request.session_hash), request)

        def refused(request: gr.Request) -> list[Any]:
            session = self.do.sessions.of(request.session_hash)
            if session.clip is not None:  # a job runs; the video that it is about stays
                return [None, *[gr.skip()] * (len(fresh) - 1), looks.status(session.told)]
            return [None, *self._fresh(session, request, session.told)]

        came = [on.video.upload, on.video.stop_recording]
        asked = gr.on(came, open_video, on.video, fresh, api_name="open_video", **opening)
        asked.failure(refused, None, [on.video, *fresh], queue=False, api_visibility="private")
        asked = on.sample.click(open_sample, None, [on.video, *fresh], api_name="open_sample", **opening)
        self._explain(asked, [on.video, *fresh])
        asked = on.video.clear(forget, None, fresh, api_visibility="private")
        self._explain(asked, fresh)

    def _frames(self) -> None:
        on = self.on
        quiet: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}

        @self._told
        def show(index: float, selected: int | None, request: gr.Request) -> list[Any]:
            return editor_values(self.do.frame(request.session_hash, index, selected))

        @self._told
        def show_typed(
            index: float, x1: float | None, y1: float | None, x2: float | None, y2: float | None, request: gr.Request
        ) -> Any:
            shown = self.do.frame(request.session_hash, index, None)
            if x1 is None or y1 is None or x2 is None or y2 is None:
                return editor_value(shown)
            return editor_value(Shown(shown.picture, shown.index, (x1, y1, x2, y2)))

        moved = [on.index.input, on.selected.input]
        wanted = [on.index, on.selected]
        self._explain(gr.on(moved, show, wanted, self.editor, trigger_mode="always_last", **quiet), [])
        on.editor.change(None, on.editor, on.box, js=BOX_TO_NUMBERS, **quiet)
        typed = [number.submit for number in on.box]
        self._explain(gr.on(typed, show_typed, [on.index, *on.box], on.editor, **quiet), [])

    def _objects(self) -> None:
        on = self.on

        @self._told
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
            said = f"{one.label} will be followed from frame {one.start_frame}."
            return [None, *self._listed(self._seen(request), one.id, said)]

        @self._told
        def add_words(text: str | None, index: float, request: gr.Request) -> list[Any]:
            added = self.do.add_words(request.session_hash, text, index)
            said = ", ".join(one.label for one in added)
            return [None, *self._listed(self._seen(request), added[-1].id, f"{said} will be looked for.")]

        @self._told
        def remove(selected: int | None, request: gr.Request) -> list[Any]:
            return self._listed(self.do.remove(request.session_hash, selected), None, "Removed.")

        @self._told
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
            return self._listed(self._seen(request), one.id, said)

        asked = [on.index, *on.box, on.name, on.direction]
        steps: list[tuple[gr.Button, Callable[..., Any], Any, list[Any]]] = [
            (on.add_box, add_box, asked, [on.name, *self.objects]),
            (on.add_words, add_words, [on.text, on.index], [on.text, *self.objects]),
            (on.remove, remove, on.selected, self.objects),
            (on.correct, correct, [on.selected, on.index, *on.box], self.objects),
        ]
        for button, step, inputs, outputs in steps:
            self._explain(button.click(step, inputs, outputs, api_name=step.__name__), outputs)

    def _tracking(self) -> None:
        on = self.on

        @self._told
        def track(model: str | None, selected: int | None, request: gr.Request) -> Iterator[list[Any]]:
            for outcome in self.do.track(request.session_hash, model):
                yield self._outcome(outcome, selected, request)

        @self._told
        def wait(request: gr.Request) -> str:
            return self.do.wait(request.session_hash)

        @self._told
        def stop(request: gr.Request) -> str:
            return self.do.stop(request.session_hash)

        shown = [*self.objects, on.live, *self.result]
        asked = on.track.click(wait, None, on.status, queue=False, show_progress="hidden", api_visibility="private")
        wanted = [on.model, on.selected]
        job = asked.then(track, wanted, shown, api_name="track", show_progress="hidden", **self.limits)
        self._explain(job, [])
        on.stop.click(stop, None, on.status, api_name="stop", queue=False)

    def _words(self) -> None:
        on = self.on

        @self._told
        def describe(model: str | None, selected: int | None, index: float, request: gr.Request) -> str:
            return self.do.describe(request.session_hash, model, selected, index)

        @self._told
        def ask(model: str | None, question: str | None, request: gr.Request) -> str:
            return self.do.ask(request.session_hash, model, question)

        @self._told
        def abilities(model: str | None, request: gr.Request) -> str:
            return self.do.abilities(model)

        @self._told
        def here(request: gr.Request) -> None:
            self.do.sessions.of(request.session_hash)

        pressed: dict[str, Any] = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
        asked = on.describe.click(here, None, None, **pressed)
        wanted = [on.model, on.selected, on.index]
        job = asked.then(describe, wanted, on.description, api_name="describe", **self.limits)
        self._explain(job, [on.description])
        asked = gr.on([on.ask.click, on.question.submit], here, None, None, **pressed)
        job = asked.then(ask, [on.model, on.question], on.answer, api_name="ask", **self.limits)
        self._explain(job, [on.answer])
        on.model.input(abilities, on.model, on.abilities, api_visibility="private", **self.limits)

    # ----------------------------------------------------------------------------------------------------------
    # values for the controls
    # ----------------------------------------------------------------------------------------------------------
    def _fresh(self, session: Session, request: gr.Request, why: str = "No video.") -> list[Any]:
        """Everything as it is after another video was taken, or none, which `why` explains."""
        empty = [*NO_RESULT, *(gr.update(value=None, interactive=False) for _ in NAMES)]
        if session.clip is None:
            bare = [gr.update(maximum=1, value=0), None, *[None] * 4]
            return [*bare, *self._listed(session, None, why), None, *empty]
        clip = session.clip
        shown = self.do.frame(request.session_hash, 0, None)
        rate = "" if clip.fps is None else f", {clip.fps:.4g} frames per second"
        said = f"{clip.num_frames} frames of {clip.width} x {clip.height} pixels{rate}. Draw a box, or use words."
        slider = gr.update(maximum=max(clip.num_frames - 1, 1), value=0)
        return [slider, *editor_values(shown), *self._listed(session, None, said), None, *empty]

    def _seen(self, request: gr.Request) -> Session:
        """The visitor's state, for what is shown after a step: no sign of its own that the page is still there."""
        return self.do.sessions.of(request.session_hash, is_visit=False)

    def _listed(self, session: Session, selected: int | None, said: str) -> list[Any]:
        """The list of objects, the legend and the status line."""
        return [*self._list(session, selected), looks.status(said)]

    def _list(self, session: Session, selected: int | None) -> list[Any]:
        choices = [(name, number) for number, name in looks.names_of(session.objects).items()]
        kept = selected if selected in [number for _, number in choices] else None
        length = 0 if session.clip is None else session.clip.num_frames
        return [gr.update(choices=choices, value=kept), looks.legend(session.objects, length)]

    def _outcome(self, outcome: Outcome, selected: int | None, request: gr.Request) -> list[Any]:
        """What a job shows: only picture and status on the way, everything at its end."""
        if outcome.results is None:
            picture = gr.skip() if outcome.picture is None else outcome.picture
            return [gr.skip(), gr.skip(), outcome.status, picture, *[gr.skip()] * len(self.result)]
        session = self._seen(request)
        head = [*self._list(session, selected), outcome.status, gr.skip()]
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
