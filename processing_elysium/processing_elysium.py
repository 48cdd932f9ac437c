"""ElysiumProcessor: pixels and text in, tensors out; text in, boxes out.

Every frame becomes `num_image_tokens` placeholders, so the model never needs to know the prompt. A video is written
as "Frame 1: <image>, Frame 2: <image>, ..." (paper, section 3.2: timestamps tell the frames apart).
Shapes: B conversations, F frames of all conversations together, K = `num_image_tokens`, T tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from transformers.processing_utils import MultiModalData, ProcessorMixin

from .boxes import ROUNDINGS, ParsedBoxes, Rounding, parse_boxes
from .image_processing_elysium import ElysiumImageProcessor  # noqa: F401  (carried into saved folders)


class ElysiumProcessor(ProcessorMixin):
    """Image processor and tokenizer in one.

    Args:
        image_processor: `ElysiumImageProcessor`.
        tokenizer: a fast tokenizer that knows `image_token` as one token.
        chat_template: Jinja text. None: the tokenizer's, or else the `chat_template.jinja` beside this file.
        num_image_tokens: K, the visual tokens that the model's compressor keeps of each frame.
        image_token: the placeholder of one visual token.
        video_token: stands for a whole video in text given to `__call__`; never reaches the tokenizer.
        box_rounding: how boxes are written and read, see `boxes.format_box`.
    """

    text_kwargs = {"padding_side": "left"}  # generation continues on the right; see transformers' _merge_kwargs

    def __init__(
        self,
        image_processor: Any = None,
        tokenizer: Any = None,
        chat_template: str | None = None,
        num_image_tokens: int = 108,
        image_token: str = "<image>",
        video_token: str = "<video>",
        box_rounding: Rounding = "floor",
    ) -> None:
        if isinstance(num_image_tokens, bool) or not isinstance(num_image_tokens, int) or num_image_tokens < 1:
            raise ValueError(f"`num_image_tokens`={num_image_tokens!r} must be a positive integer.")
        if box_rounding not in ROUNDINGS:
            raise ValueError(f"`box_rounding`={box_rounding!r} is unknown; use one of {ROUNDINGS}.")
        ids = tokenizer.encode(image_token, add_special_tokens=False)
        if len(ids) != 1:
            raise ValueError(
                f"`image_token`={image_token!r} is {len(ids)} tokens in this tokenizer; add it with "
                "tokenizer.add_special_tokens and resize the model's embeddings."
            )
        if chat_template is None:
            chat_template = getattr(tokenizer, "chat_template", None) or _default_chat_template()
        self.num_image_tokens = num_image_tokens
        self.image_token = image_token
        self.image_token_id = ids[0]
        self.video_token = video_token
        self.box_rounding = box_rounding
        super().__init__(image_processor, tokenizer, chat_template=chat_template)

    def replace_image_token(self, image_inputs: dict[str, Any], image_idx: int, **kwargs: Any) -> str:
        """The text that one `image_token` becomes: K placeholders."""
        return self.image_token * self.num_image_tokens

    def _get_num_multimodal_tokens(
        self, image_sizes: Sequence[tuple[int, int]] | None = None, **kwargs: Any
    ) -> MultiModalData:
        """Placeholder counts for images of the given (height, width), as serving engines ask for them.

        The signature is the library's: `kwargs` holds processor options, none of which changes the count.
        """
        if image_sizes is None:
            return MultiModalData()
        return MultiModalData(
            num_image_tokens=[self.num_image_tokens] * len(image_sizes), num_image_patches=[1] * len(image_sizes)
        )

    def post_process_boxes(
        self,
        text: str,
        num_frames: int | None = None,
        target_sizes: tuple[int, int] | Sequence[tuple[int, int]] | None = None,
    ) -> ParsedBoxes:
        """Read the boxes of one answer.

        Args:
            text: what the model said.
            num_frames: F; None takes the highest frame number with a box.
            target_sizes: (height, width) in pixels of the frames, or one pair per frame. None: relative boxes.

        Returns:
            `ParsedBoxes`; with `target_sizes` its boxes are in pixels.

        Raises:
            ValueError: the number of target sizes is not the number of frames.
        """
        parsed = parse_boxes(text, num_frames, self.box_rounding)
        if target_sizes is None:
            return parsed
        sizes = np.broadcast_to(np.asarray(target_sizes, dtype=np.float64), (len(parsed), 2))
        scale = np.stack([sizes[:, 1], sizes[:, 0], sizes[:, 1], sizes[:, 0]], axis=-1)
        return ParsedBoxes(boxes=parsed.boxes * scale, valid=parsed.valid, spans=parsed.spans)


def _default_chat_template() -> str | None:
    """The project's template; None where this file was loaded from a checkpoint's code without it."""
    path = Path(__file__).with_name("chat_template.jinja")
    return path.read_text(encoding="utf-8").rstrip("\n") if path.is_file() else None
