"""The page of `python -m dataset_scripts.review`: clip, expression, way of the object, keys."""

from __future__ import annotations

import functools
from typing import Any

from .desk import KEYS, ReviewDesk, Shown

__all__ = ["LAUNCH", "build_page"]

# Keys press the buttons of the same names, unless somebody is writing.
_KEYBOARD = """<script>
document.addEventListener("keydown", (event) => {
  const writing = ["INPUT", "TEXTAREA"].includes(document.activeElement?.tagName);
  const name = %s[event.key.toLowerCase()];
  if (!name || writing || event.ctrlKey || event.metaKey || event.altKey) return;
  event.preventDefault();
  document.getElementById("review-" + name)?.click();
});
</script>"""
LAUNCH: dict[str, Any] = {"head": _KEYBOARD % KEYS}


def build_page(desk: ReviewDesk, reviewer: str = "") -> Any:
    """Lay the desk out as a `gradio.Blocks`; launch it with `**LAUNCH`.

    Args:
        desk: what is shown and done.
        reviewer: name that the page proposes.

    Raises:
        ImportError: gradio is missing.
    """
    try:
        import gradio as gr
    except ImportError as error:
        raise ImportError("the page needs gradio: pip install 'gradio>=6.14'.") from error

    def laid_out(session: Any, shown: Shown) -> tuple[Any, ...]:
        return (
            session, shown.clip, shown.way, shown.title, gr.update(value=shown.phrase),
            shown.summary, gr.update(value=shown.message, visible=bool(shown.message)),
        )  # fmt: skip

    def begin(name: str) -> tuple[Any, ...]:
        return laid_out(*desk.begin(name))

    def act(action: str, session: Any, phrase: str) -> tuple[Any, ...]:
        return laid_out(*desk.act(session, action, phrase))

    with gr.Blocks(title="Review of trajectories", analytics_enabled=False) as page:
        session = gr.State()
        with gr.Row():
            name = gr.Textbox(reviewer, label="Your name", scale=3)
            start = gr.Button("Start", variant="primary", scale=1)
        message = gr.Markdown(visible=False, elem_id="review-message")
        title = gr.Markdown()
        with gr.Row():
            clip = gr.Video(label="Clip", autoplay=True, loop=True, interactive=False)
            way = gr.Image(label="Way of the object", interactive=False)
        phrase = gr.Textbox(label="Expression: it must fit this object alone, in the first frame (edit it here)")
        with gr.Row():
            buttons = {
                action: gr.Button(f"{action} ({key})", elem_id=f"review-{action}") for key, action in KEYS.items()
            }
        summary = gr.Markdown()
        shown = [session, clip, way, title, phrase, summary, message]
        gr.on([start.click, name.submit], begin, [name], shown, api_name="begin")
        for action, button in buttons.items():
            button.click(functools.partial(act, action), [session, phrase], shown, api_name=action)
    return page
