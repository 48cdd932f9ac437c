"""What `ElysiumProcessor(compat="released")` does differently: the text conventions of the authors' released code.

Their code cuts a prompt at every image and tokenizes each piece on its own, with `<s>` in front, and the answer
without it. A sentencepiece tokenizer puts a word boundary before every such piece. Both can be written as plain text:
`<s>` after every image, a space before every answer, and a tokenizer that puts the boundary after special tokens too.
So the same text, tokenized in one go, gives the same ids, and offsets and masks keep their meaning.
"""

from __future__ import annotations

import re
from typing import Any

from .prompts import TRACKING_TASKS, Task

COMPATS = (None, "released")
# What a tracking session takes for a converted checkpoint where the caller says nothing.
TRACKING_DEFAULTS = {"rsot_continuation": "expression", "single_pass_up_to": 0}
PERIOD_TASKS = (*TRACKING_TASKS, Task.VIDEO_REG)  # their training answers end with a period
_TEMPLATE_SWITCH = "set released = {}"


def prepare_tokenizer(tokenizer: Any) -> None:
    """Make a tokenizer treat the text after a special token as a text of its own; changes it in place.

    Args:
        tokenizer: a fast tokenizer of the Llama kind.

    Raises:
        ValueError: the tokenizer cannot write pieces the way the released code does.
    """
    backend = tokenizer.backend_tokenizer
    boundary = backend.pre_tokenizer
    if getattr(boundary, "prepend_scheme", None) == "first":
        boundary.prepend_scheme = "always"
        backend.pre_tokenizer = boundary

    def ids(text: str) -> list[int]:
        return tokenizer.encode(text, add_special_tokens=False)

    bos, piece = tokenizer.bos_token, "Frame 1"
    if bos is None or ids(bos + piece) != ids(bos) + ids(piece) or ids("x: " + piece) != ids("x:") + ids(piece):
        raise ValueError(
            f"`compat`='released' needs a Llama tokenizer with a `<s>`, and {type(tokenizer).__name__} joins "
            "pieces in another way; take the tokenizer of the checkpoint's language model, or leave `compat` out."
        )


def released_template(template: str) -> str:
    """Return the project's chat template with its switch for the released conventions on."""
    return template.replace(_TEMPLATE_SWITCH.format("false"), _TEMPLATE_SWITCH.format("true"), 1)


def mark_images(text: Any, image_token: str, bos_token: str) -> Any:
    """Put `bos_token` after every image of a text (or of each text of a list) where it is missing."""
    if isinstance(text, (list, tuple)):
        return [mark_images(item, image_token, bos_token) for item in text]
    if not isinstance(text, str):
        return text
    missing = re.escape(image_token) + f"(?!{re.escape(bos_token)})"
    return re.sub(missing, lambda _: image_token + bos_token, text)


def number_seconds(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return messages whose image parts carry their second, which the template writes as `1s: <image>; 2s: <image>; `.

    The released VideoQA data shows one frame per second; a single image gets neither a label nor a newline.
    """
    numbered = []
    for message in messages:
        second, parts = 0, []
        for part in message["content"]:
            if part["type"] == "image":
                second += 1
                part = {**part, "second": second}
            parts.append(part)
        numbered.append({**message, "content": parts})
    return numbered
