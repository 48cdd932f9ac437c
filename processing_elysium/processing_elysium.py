"""ElysiumProcessor: pixels and text in, tensors out; text in, boxes out.

Every frame becomes `num_image_tokens` placeholders, so the model never needs to know the prompt. A video is written
as "Frame 1: <image>, Frame 2: <image>, ..." (paper, section 3.2: timestamps tell the frames apart).
Shapes: B conversations, F frames of all conversations together, K = `num_image_tokens`, T tokens.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from transformers import BatchFeature
from transformers.processing_utils import MultiModalData, ProcessorMixin

from .boxes import GRID, ROUNDINGS, ParsedBoxes, Rounding, format_box, parse_boxes, validate_box_px
from .frames import SampledFrame, VideoSource, evenly_spaced_frames, frames_from, open_video, sample_video
from .image_processing_elysium import replace_code_links
from .image_sequence import is_image_name, is_sequence
from .prompts import Task, build_messages, check_text, check_trained_on, render_answer, untaught
from .released import (
    COMPATS,
    PERIOD_TASKS,
    TRACKING_DEFAULTS,
    mark_images,
    number_seconds,
    prepare_tokenizer,
    released_template,
)


class ElysiumProcessor(ProcessorMixin):
    """Image processor and tokenizer in one.

    Args:
        image_processor: `ElysiumImageProcessor`.
        tokenizer: a fast tokenizer that knows `image_token` as one token. It is set to pad on the left, because
            generation continues on the right; training may pass `padding_side="right"` to a call.
        chat_template: Jinja text. None: the tokenizer's, or else the `chat_template.jinja` beside this file.
        num_image_tokens: K, the visual tokens that the model's compressor keeps of each frame.
        image_token: the placeholder of one visual token.
        box_rounding: how boxes are written and read, see `boxes.format_box`. None: `"floor"`, or `"round"` with
            `compat="released"`.
        compat: `"released"` writes text as the authors' released code does (see `released.py`), which their
            checkpoint needs: `<s>` after every image, answers tokenized apart, their rounding, periods and seconds.
        absent_boxes: the model was taught to write `[]` for a frame in which the object is not to be seen; answers
            that are held to the format may then say so, in every frame of a clip but the first.
        tracking_defaults: tracking options (`single_pass_up_to` ...) that suit this checkpoint better than the
            pipeline's own defaults; what a caller passes comes first. None: none, or with `compat="released"` those
            of the authors' code.
        trained_on: what the checkpoint has seen, so that the pipeline can warn of the rest: `{"material": "drawn
            shapes", "tasks": ["sot", ...], "aspect_ratio": [1.0, 1.0], "cautions": {"video_reg": "..."}}`, the
            ratio being width over height of its frames, lowest and highest, and the cautions what to expect of a
            task that it was trained for and does badly, as sentences. None: unknown.

    Raises:
        ValueError: a value that is not allowed, or an `image_token` that is not one token.
    """

    video_token = "<video>"  # a whole video in text; becomes image tokens and never reaches the tokenizer

    def __init__(
        self,
        image_processor: Any = None,
        tokenizer: Any = None,
        chat_template: str | None = None,
        num_image_tokens: int = 108,
        image_token: str = "<image>",
        box_rounding: Rounding | None = None,
        compat: str | None = None,
        absent_boxes: bool = False,
        tracking_defaults: dict[str, Any] | None = None,
        trained_on: dict[str, Any] | None = None,
    ) -> None:
        if isinstance(num_image_tokens, bool) or not isinstance(num_image_tokens, int) or num_image_tokens < 1:
            raise ValueError(f"`num_image_tokens`={num_image_tokens!r} must be a positive integer.")
        if compat not in COMPATS:
            raise ValueError(f"`compat`={compat!r} is unknown; use 'released', or None for this project's own text.")
        if box_rounding is None:
            box_rounding = "floor" if compat is None else "round"
        if box_rounding not in ROUNDINGS:
            raise ValueError(f"`box_rounding`={box_rounding!r} is unknown; use one of {ROUNDINGS}.")
        if not isinstance(absent_boxes, bool):
            raise ValueError(f"`absent_boxes`={absent_boxes!r} is unknown; use True or False.")
        if tracking_defaults is None:
            tracking_defaults = {} if compat is None else dict(TRACKING_DEFAULTS)
        if not isinstance(tracking_defaults, dict):
            raise ValueError(f"`tracking_defaults`={tracking_defaults!r} must map options of tracking to values.")
        check_trained_on(trained_on)
        ids = tokenizer.encode(image_token, add_special_tokens=False)
        if len(ids) != 1:
            raise ValueError(
                f"`image_token`={image_token!r} is {len(ids)} tokens in this tokenizer; add it with "
                "tokenizer.add_special_tokens and resize the model's embeddings."
            )
        if compat is not None:
            prepare_tokenizer(tokenizer)
            chat_template = chat_template or released_template(_default_chat_template(image_token) or "") or None
        if chat_template is None:
            chat_template = getattr(tokenizer, "chat_template", None) or _default_chat_template(image_token)
        self.num_image_tokens = num_image_tokens
        self.image_token = image_token
        self.image_token_id = ids[0]
        self.box_rounding = box_rounding
        self.compat = compat
        self.absent_boxes = absent_boxes
        self.tracking_defaults = tracking_defaults
        self.trained_on = trained_on
        tokenizer.padding_side = "left"
        super().__init__(image_processor, tokenizer, chat_template=chat_template)

    def save_pretrained(self, save_directory: str | os.PathLike[str], push_to_hub: bool = False, **kwargs: Any) -> Any:
        """Save as the library does; code files of the folder that are links (a clone's own) become real ones.

        Args:
            save_directory: folder to write to.
            push_to_hub: upload it afterwards.
            **kwargs: passed on to `ProcessorMixin.save_pretrained`.
        """
        replace_code_links(save_directory)
        return super().save_pretrained(save_directory, push_to_hub=push_to_hub, **kwargs)

    def replace_image_token(self, image_inputs: dict[str, Any], image_idx: int, **kwargs: Any) -> str:
        """Return the text that one `image_token` becomes: K placeholders."""
        return self.image_token * self.num_image_tokens

    def expand_images(self, text: str) -> str:
        """Return text with every `image_token` in the form that the model is fed, as `__call__` expands it."""
        return self.replace_image_token({}, 0).join(text.split(self.image_token))

    @property
    def video_processor(self) -> Any:
        """What makes the mixin take `videos=`. A property, because a field of this name would need torchvision."""
        return self.image_processor

    def prepare_inputs_layout(
        self, images: Any = None, text: Any = None, videos: Any = None, audio: Any = None, **kwargs: Any
    ) -> tuple[Any, Any, Any, Any]:
        """Open and sample the videos, then the library's own preparation (its signature).

        `num_frames=` takes so many frames evenly, `fps=` so many per second, `do_sample_frames=False` all of them.
        Without any, a video of at most 32 frames is taken whole and a longer one gives 16 (paper, section 4.3).

        Raises:
            ValueError: images and videos in one call, whose order would be unknown; or see `frames.open_video`.
        """
        if self.compat is not None:
            text = mark_images(text, self.image_token, self.tokenizer.bos_token)
        images, text, _, audio = super().prepare_inputs_layout(images=images, text=text, audio=audio, **kwargs)
        if videos is None:
            return images, text, None, audio
        if images is not None:
            raise ValueError(
                "`images` and `videos` were passed together, so the order of their frames is unknown; pass "
                "the frames of the videos as images, with one image part each."
            )
        options = {**kwargs, **kwargs.get("videos_kwargs", {})}
        count, fps = options.get("num_frames"), options.get("fps")
        sampled = options.get("do_sample_frames") is not False
        videos = [sample_video(open_video(v), count, fps, sampled) for v in _split_videos(videos)]
        return images, text, videos, audio

    def _process_videos(self, videos: list[np.ndarray], **kwargs: Any) -> tuple[BatchFeature, list[str]]:
        """Pixels of all frames, and for each video the text that its `video_token` becomes."""
        known = self.image_processor.valid_kwargs.__annotations__
        options = {key: value for key, value in kwargs.items() if key in known}
        pixels = self.image_processor([frame for video in videos for frame in video], **options)
        image = self.replace_image_token({}, 0) + ("" if self.compat is None else self.tokenizer.bos_token)
        texts = []
        for video in videos:
            labels = [f"Frame {number}: " for number in range(1, len(video) + 1)] if len(video) > 1 else [""]
            texts.append(", ".join(label + image for label in labels) + "\n")
        return pixels, texts

    def _get_num_multimodal_tokens(
        self, image_sizes: Sequence[tuple[int, int]] | None = None, **kwargs: Any
    ) -> MultiModalData:
        """Return placeholder counts for images of the given (height, width), as serving engines ask for them.

        The signature is the library's: `kwargs` holds processor options, none of which changes the count.
        """
        if image_sizes is None:
            return MultiModalData()
        return MultiModalData(
            num_image_tokens=[self.num_image_tokens] * len(image_sizes), num_image_patches=[1] * len(image_sizes)
        )

    def open_video(self, source: Any, fps: float | None = None) -> VideoSource:
        """Open a path, URL, bytes, list, array, tensor or iterator of frames; see `frames.open_video`."""
        return open_video(source, fps=fps)

    def evenly_spaced_frames(self, source: VideoSource, num_frames: int) -> list[SampledFrame]:
        """Return frames spread over an opened video, as (index, seconds, image); see `frames.evenly_spaced_frames`."""
        return evenly_spaced_frames(source, num_frames)

    def frames_from(self, source: VideoSource, start: int, num_frames: int, interval: int = 1) -> list[SampledFrame]:
        """Return frames from one on, `interval` apart, as (index, seconds, image); see `frames.frames_from`."""
        return frames_from(source, start, num_frames, interval)

    def build_messages(self, task: Task | str, num_frames: int, **options: Any) -> list[dict[str, Any]]:
        """Return the conversation of one question; `options` are those of `prompts.build_messages`, checked there."""
        for name, value in options.items():
            if isinstance(value, str):
                check_text(value, name, (self.image_token, self.video_token), self.tokenizer.all_special_tokens)
        messages = build_messages(task, num_frames, **{"box_rounding": self.box_rounding, **options})
        return number_seconds(messages) if self.compat is not None and Task(task.lower()) is Task.VQA else messages

    def render_answer(self, task: Task | str, **options: Any) -> str:
        """Return the answer that training teaches, as this processor writes it; see `prompts.render_answer`."""
        if self.compat is not None:
            options = {"final_period": Task(task.lower()) in PERIOD_TASKS, **options}
        return render_answer(task, **{"box_rounding": self.box_rounding, **options})

    def untaught(self, task: Task | str, width: int, height: int) -> str | None:
        """Say what speaks against asking this checkpoint, as a sentence for a warning; None where nothing is known.

        Args:
            task: what is asked.
            width: of the video's frames in pixels.
            height: likewise.
        """
        return untaught(self.trained_on or {}, Task(task.lower()), width, height)

    def caution(self, task: Task | str) -> str | None:
        """Say what to expect of a task that this checkpoint does badly, by `trained_on`; None where that has nothing.

        Args:
            task: what is asked.
        """
        return (self.trained_on or {}).get("cautions", {}).get(Task(task.lower()).value)

    @property
    def box_grid(self) -> int:
        """Cells per axis in which box numbers are written; see `boxes.GRID`."""
        return GRID

    def format_box(self, box: Sequence[float]) -> str:
        """Return a relative (x1, y1, x2, y2) as this processor's box text; see `boxes.format_box`."""
        return format_box(box, self.box_rounding)

    def validate_box_px(self, box: Sequence[float], width: int, height: int) -> np.ndarray:
        """Check a typed pixel box against its frame; see `boxes.validate_box_px`."""
        return validate_box_px(box, width, height)

    def encode_expressions(self, expressions: Sequence[str | None]) -> torch.Tensor:
        """Return what a model with `expression_similarity` takes as `expression_ids`.

        Args:
            expressions: for each of F frames what is looked for in it, None for nothing.

        Returns:
            Token ids of shape (F, L), at least one column, with -1 as padding.
        """
        encode = self.tokenizer.encode
        rows = [[] if text is None else encode(text.lower(), add_special_tokens=False) for text in expressions]
        longest = max([1, *map(len, rows)])
        return torch.tensor([row + [-1] * (longest - len(row)) for row in rows], dtype=torch.long).view(-1, longest)

    def encode(
        self,
        messages: Sequence[Sequence[dict[str, Any]]],
        frames: Sequence[Sequence[Any]],
        add_generation_prompt: bool = True,
    ) -> BatchFeature:
        """Tokenize questions together with their frames, ready for `generate`.

        Args:
            messages: B conversations whose image parts hold no image yet (`build_messages`).
            frames: for each conversation the frames of its image parts, in order.
            add_generation_prompt: end the text where the answer begins.

        Returns:
            `input_ids` and `attention_mask` of shape (B, T), left-padded, and `pixel_values` of shape (F, 3, H, W).

        Raises:
            ValueError: a conversation has more or fewer image parts than frames.
        """
        if len(messages) != len(frames):
            raise ValueError(f"`frames` has {len(frames)} entries for {len(messages)} conversations; pass one each.")
        text = self.apply_chat_template(list(messages), add_generation_prompt=add_generation_prompt)
        for index, (prompt, images) in enumerate(zip(text, frames, strict=True)):
            wanted = prompt.count(self.image_token)
            if wanted != len(images):
                raise ValueError(
                    f"conversation {index} has {wanted} image part(s) but `frames` holds {len(images)}; pass one each."
                )
        shown = [list(item) for item in frames] if any(len(item) for item in frames) else None
        return self(text=text, images=shown, padding=True, return_tensors="pt", add_special_tokens=False)

    def encode_tracking(
        self, task: Task | str, frames: Sequence[Any], add_generation_prompt: bool = True, **options: Any
    ) -> BatchFeature:
        """One question about one clip as model input: `build_messages` and `encode` in a row.

        Args:
            task: a `Task` or its value.
            frames: F frames of the clip, of any kind the image processor takes.
            add_generation_prompt: see `encode`.
            options: `box`, `expression`, `question`, `prompt`, `frame_of_box` ... of `prompts.build_messages`.

        Returns:
            `input_ids`, `attention_mask` of shape (1, T) and `pixel_values` of shape (F, 3, H, W).
        """
        return self.encode([self.build_messages(task, len(frames), **options)], [frames], add_generation_prompt)

    def post_process_boxes(
        self,
        text: str,
        num_frames: int | None = None,
        target_sizes: tuple[int, int] | Sequence[tuple[int, int]] | None = None,
        partial: bool = False,
    ) -> ParsedBoxes:
        """Read the boxes of one answer.

        Args:
            text: what the model said.
            num_frames: F; None takes the highest frame number with a box.
            target_sizes: (height, width) in pixels of the frames, or one pair per frame. None: relative boxes.
            partial: the answer is still being written: only boxes that stay, whatever follows, are read.

        Returns:
            `ParsedBoxes`; with `target_sizes` its boxes are in pixels.

        Raises:
            ValueError: the number of target sizes is not the number of frames.
        """
        parsed = parse_boxes(text, num_frames, self.box_rounding, partial=partial)
        if target_sizes is None:
            return parsed
        sizes = np.asarray(target_sizes, dtype=np.float64)
        if sizes.shape not in ((2,), (len(parsed), 2)):
            raise ValueError(
                f"`target_sizes` has shape {sizes.shape} for {len(parsed)} frames; pass one (height, width), or one "
                "per frame."
            )
        sizes = np.broadcast_to(sizes, (len(parsed), 2))
        scale = np.stack([sizes[:, 1], sizes[:, 0], sizes[:, 1], sizes[:, 0]], axis=-1)
        return ParsedBoxes(boxes=parsed.boxes * scale, valid=parsed.valid, spans=parsed.spans)


def _default_chat_template(image_token: str) -> str | None:
    """Return the project's template; None where this file was loaded from a checkpoint's code without it."""
    path = Path(__file__).with_name("chat_template.jinja")
    if not path.is_file():
        return None
    return path.read_text(encoding="utf-8").rstrip("\n").replace("<image>", image_token)


def _split_videos(videos: Any) -> list[Any]:
    """The single videos of `videos=`: one video, or any nesting of lists of them (a list of frames is one video)."""
    if getattr(videos, "ndim", 0) == 5:
        return list(videos)
    if not is_sequence(videos) or hasattr(videos, "num_frames"):
        return [videos]
    items = [videos[index] for index in range(len(videos))]
    if items and all(_is_frame(item) for item in items):
        return [videos]
    iterators = [item for item in items if hasattr(item, "__next__")]
    if len({id(item) for item in iterators}) < len(iterators):
        raise ValueError("`videos` holds the same iterator twice, and it can be read only once; pass one per video.")
    return [video for item in items for video in _split_videos(item)]


def _is_frame(item: Any) -> bool:
    return isinstance(item, Image.Image) or is_image_name(item) or getattr(item, "ndim", 0) in (2, 3)


ElysiumProcessor.register_for_auto_class()  # so that `save_pretrained` writes this code too
