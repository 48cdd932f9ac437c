"""The `video-tracking` pipeline: videos and objects in, boxes per frame out; also descriptions and answers.

```python
pipe = pipeline("video-tracking", model="elysium")
frames = pipe("swans.mp4", expression="the black swan")               # referring tracking (RSOT)
frames = pipe("swans.mp4", box=(34, 40, 120, 160))                    # tracking from a box in pixels (SOT)
pipe("swans.mp4", box=(34, 40, 120, 160), task="describe")            # Video-REG
pipe.ask("swans.mp4", "What is on the lake?")
```
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial as bound
from pathlib import Path
from typing import Any, cast

import numpy as np
from transformers import Pipeline
from transformers.dynamic_module_utils import custom_object_save

from .answering import ClipAnswerer
from .drafted_answering import DraftedAnswerer
from .exchange import ClipRequest, VideoFrame
from .extras import extras_for
from .lanes import build_request
from .live import LiveTracker
from .masks import BoxSegmenter
from .options import TrackingOptions, check_choice, check_count, options_given
from .protocols import Answerer, Processor
from .queries import ObjectQuery, Subjects, is_batch, is_local_file, make_queries, per_video
from .scheduling import track_videos
from .session import TrackingSession
from .stats import Stats
from .threads import threads_for, with_threads
from .zoom import known_window

TASKS = ("track", "describe")
# What a saved configuration says of the pipeline, for `trust_remote_code`.
CUSTOM_PIPELINES = {
    "video-tracking": {
        "impl": "pipeline_video_tracking.VideoTrackingPipeline",
        "pt": ["AutoModelForImageTextToText"],
        "type": "multimodal",
    }
}


class VideoTrackingPipeline(Pipeline):
    """Track objects through videos with an Elysium model.

    Args (of `pipeline("video-tracking", ...)`, besides the library's own): every option of `TrackingOptions` and
    `batch_size`, as defaults for the calls.

    Attributes:
        answerer: who answers the questions about clips, an `Answerer` or what builds one: it is called with model,
            processor and the keywords of `ClipAnswerer`. None: the decoder that the option `decoding` names.
        segmenter: what `masks` named in the last call that wanted some, kept for the next, and its name.
    """

    _load_processor = True
    _load_image_processor = False
    _load_video_processor = False
    _load_feature_extractor = False
    _load_tokenizer = False
    _stats: Stats | None = None
    _warned: frozenset[str] = frozenset()  # what was said once
    segmenter: tuple[str, BoxSegmenter] | None = None

    def __init__(self, *args: Any, answerer: Answerer | Callable[..., Answerer] | None = None, **kwargs: Any) -> None:
        self.answerer = answerer
        super().__init__(*args, **kwargs)

    @property
    def _processor(self) -> Processor:
        """The processor; the library's base class knows only that there may be one of any kind."""
        return cast(Processor, self.processor)

    @property
    def stats(self) -> dict[str, Any]:
        """What the last call cost (so far, while a stream is read): counts and seconds, see `Stats.as_dict`."""
        return (self._stats or Stats()).as_dict()

    def _sanitize_parameters(self, **options: Any) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        """Return options of a session, from construction or a call; None keeps the default where it is no value."""
        given = options_given(options, ("batch_size",))
        self._settings(given)  # a wrong value is an error here, not at the first clip
        return given, {}, {}

    def _settings(self, given: dict[str, Any]) -> TrackingOptions:
        """Return options of a session: what the caller gave, else what the checkpoint asks for, else the defaults."""
        try:
            defaults = options_given(self._processor.tracking_defaults)
            TrackingOptions(**defaults)
        except ValueError as error:
            raise ValueError(f"`tracking_defaults` of the checkpoint's processor_config.json: {error}") from None
        return TrackingOptions(**{**defaults, **given})

    def __call__(
        self,
        videos: Any,
        *,
        box: Any = None,
        expression: Any = None,
        start_frame: Any = 0,
        labels: Any = None,
        direction: str = "forward",
        task: str = "track",
        stream: bool = False,
        batch_size: int | None = None,
        num_frames: int = 8,
        frame_interval: int = 1,
        max_new_tokens: int = 64,
        masks: bool | str | os.PathLike[str] | BoxSegmenter = False,
        visualize: bool | str | os.PathLike[str] = False,
        **options: Any,
    ) -> Any:
        """Track (or describe) objects in one video or in a batch of videos.

        Args:
            videos: a path, URL, bytes, list of PIL images or arrays, tensor (T, H, W, 3) or (T, 3, H, W), or an
                iterator of frames; or a list of such videos.
            box: (x1, y1, x2, y2) in pixels of the frame; a list of boxes for several objects.
            expression: what the object is called; a list for several objects. Exactly one of both is given. For a list
                of videos, one value serves all, or a list gives one entry (itself maybe a list) per video.
            start_frame: frame, from 0, in which the box holds; a list gives one per object.
            labels: names for the results, one per object.
            direction: `"forward"`, `"backward"` or `"both"` from the start frame.
            task: `"track"`, or `"describe"` (Video-REG) for a text per box.
            stream: return an iterator that yields each frame as soon as the boxes of all objects in it are decided,
                before its clip is.
            batch_size: clip prompts that the model reads together (16 unless set at construction).
            num_frames: frames shown for `task="describe"`, from the start frame on. With `zoom=True` the object is
                described from the search window of its start frame alone.
            frame_interval: distance between them.
            max_new_tokens: length of a description.
            masks: each object gets `"mask"`, bool (H, W), by handing its box to SAM 2 or SAM 3; None where it is not
                present. True takes `masks.DEFAULT_MODEL`; or a folder, a Hub id, a `BoxSegmenter`.
            visualize: True: each frame gets `"picture"`, uint8 RGB with boxes drawn in. A folder: video, contact
                sheet, plots and what the T-Selector kept are written there (`extras.FILES`) after the last frame.
            **options: the fields of `TrackingOptions`, which says what they are and do.

        Returns:
            Per video the list of tracked frames `{"frame", "timestamp", "objects": [{"id", "label", "score", "box":
            {"xmin", "ymin", "xmax", "ymax"}}]}`, boxes in pixels, `timestamp` in seconds, `score` the geometric mean
            of the digits' probabilities (1 for a given box, 0 where a gap policy put the box). With `stream=True` an
            iterator over those dicts (with the video's position as `"video"` for a list of videos). With
            `task="describe"` a list `{"id", "label", "frame", "box", "description"}`, one per box.

        Raises:
            ValueError: anything that cannot be tracked, before any model runs.
        """
        check_choice("task", task, TASKS)
        check_count("num_frames", num_frames)
        check_count("frame_interval", frame_interval)
        check_count("max_new_tokens", max_new_tokens)
        if task == "describe" and expression is not None:
            raise ValueError("`task`='describe' is asked with `box`, not with `expression`; pass the object's box.")
        check_count("batch_size", batch_size, optional=True)
        preprocess_params = {**self._preprocess_params, **self._sanitize_parameters(**options)[0]}
        extras = extras_for(self, task, masks, visualize, is_batch(videos))
        subjects = Subjects(box, expression, start_frame, labels)
        inputs = {"videos": videos, "subjects": subjects, "direction": direction, "extras": extras}
        inputs["answerer"] = extras.watch(self._answerer(batch_size, preprocess_params))
        if task == "describe":
            inputs["shown"] = (num_frames, frame_interval, max_new_tokens)
            return self._describe(inputs, self._settings(preprocess_params))
        prepared = self.preprocess(inputs, **preprocess_params)
        if stream:
            return self._stream(prepared)
        return self.postprocess(self.forward(prepared))

    def open(
        self,
        *,
        box: Any = None,
        expression: Any = None,
        labels: Any = None,
        fps: float | None = None,
        batch_size: int | None = None,
        **options: Any,
    ) -> LiveTracker:
        """Open a tracker that is handed frames one by one, as they come: `tracker.push(frame)` gives the objects.

        Args:
            box: (x1, y1, x2, y2) in pixels of the first frame, or a list of boxes.
            expression: what an object in the first frame is called, or a list. With neither, `tracker.add` names the
                objects after the first frame.
            labels: names for the results, one per object.
            fps: frames per second, for time stamps.
            batch_size: see `__call__`.
            **options: the fields of `TrackingOptions`; `frame_by_frame` is on.

        Returns:
            The tracker; its boxes are those of a call with `frame_by_frame=True` (or `zoom=True`) on the same frames.

        Raises:
            ValueError: an option of no use, or both box and expression.
        """
        check_count("batch_size", batch_size, optional=True)
        if box is not None and expression is not None:
            raise ValueError("both `box` and `expression` are given; pass one, and `tracker.add` the other objects.")
        given = {**self._preprocess_params, **self._sanitize_parameters(**{"frame_by_frame": True, **options})[0]}
        subjects = None if box is None and expression is None else Subjects(box, expression, 0, labels)
        return LiveTracker(
            self._processor,
            self._answerer(batch_size, given),
            self._settings(given),
            fps,
            self._model_context(),
            lambda source, query: self._warn_of_untaught("rsot" if query.box is None else "sot", source, stacklevel=5),
            subjects,
        )

    def save_pretrained(self, save_directory: str | os.PathLike[str], **kwargs: Any) -> None:
        """Save all that tracking needs: model, processor, pipeline and their code, each file a real one.

        Args:
            save_directory: folder to write; code files in it that are links (as in a clone's own checkpoint) are
                replaced.
            **kwargs: passed on to the model's `save_pretrained`.
        """
        folder = Path(save_directory)
        config = self.model.config
        before = getattr(config, "custom_pipelines", None)
        config.custom_pipelines = CUSTOM_PIPELINES
        try:
            self.model.save_pretrained(folder, **kwargs)
        finally:  # in a living configuration the entry would ask for remote code
            del config.custom_pipelines
            if before is not None:
                config.custom_pipelines = before
        self._processor.save_pretrained(folder)
        carry_pipeline(folder)

    # ----------------------------------------------------------------------------------------------------------
    # tracking, in the three steps of the library's pipelines
    # ----------------------------------------------------------------------------------------------------------
    def preprocess(self, inputs: dict[str, Any], **options: Any) -> dict[str, Any]:
        """Open the videos, check everything and plan one session per video; no model runs."""
        settings = self._settings(options)
        answerer, extras, batched = inputs["answerer"], inputs["extras"], is_batch(inputs["videos"])
        plans: list[_Plan] = []
        for position, (video, source, queries) in enumerate(self._open(inputs)):
            self._warn_of_untaught("rsot" if queries[0].box is None else "sot", source, stacklevel=4)
            session: TrackingSession | None
            kept = extras.keep(position, source, settings)
            session = TrackingSession(kept, self._processor, queries, settings, True, answerer.prepare)
            longest = [None] * session.longest_clip
            answerer.check_fits(
                [build_request(self._processor, query, query.box, longest, settings) for query in queries]
            )
            size = (source.width, source.height)
            if batched and is_local_file(video):
                session = None  # hundreds of open decoders would hold memory: opened again when its turn comes
                source.close()
            keep = bound(extras.keep, position, settings=settings)
            plans.append(_Plan(video, queries, settings, size, session, keep))
        return {"plans": plans, "answerer": answerer, "batched": batched, "extras": extras}

    def _forward(self, prepared: dict[str, Any]) -> dict[str, Any]:
        frames: list[list[dict[str, Any]]] = [[] for _ in prepared["plans"]]
        for position, frame in self._decided(prepared, partial=False):
            frames[position].append(frame)
        return {"frames": frames, "batched": prepared["batched"]}

    def postprocess(self, outputs: dict[str, Any]) -> list[Any]:
        """Put the frames in order; one video gives its frames, a batch a list of them."""
        ordered = [sorted(frames, key=lambda item: item["frame"]) for frames in outputs["frames"]]
        return ordered if outputs["batched"] else ordered[0]

    def _stream(self, prepared: dict[str, Any]) -> Iterator[dict[str, Any]]:
        for position, frame in self._decided(prepared, partial=True):
            yield {"video": position, **frame} if prepared["batched"] else frame

    def _decided(self, prepared: dict[str, Any], partial: bool) -> Iterator[tuple[int, dict[str, Any]]]:
        """Yield (position of the video, frame) as the frames are decided; `partial`: before their clip is."""
        plans, answerer, extras = prepared["plans"], prepared["answerer"], prepared["extras"]
        sessions = (plan.take_session(self._processor, answerer.prepare) for plan in plans)
        # Device and threads are set around the model only: between frames they are the consumer's.
        size, model_context = answerer.batch_size, self._model_context()
        for position, result in track_videos(sessions, answerer, size, model_context, partial):
            yield position, extras.complete(position, result.to_dict(*plans[position].size))
        extras.finish()

    # ----------------------------------------------------------------------------------------------------------
    # descriptions and questions
    # ----------------------------------------------------------------------------------------------------------
    def ask(
        self,
        videos: Any,
        question: str | list[str],
        num_frames: int = 16,
        max_new_tokens: int = 128,
        prompt: str | None = None,
        batch_size: int | None = None,
    ) -> Any:
        """Answer questions about a video, seen as evenly spaced frames (paper, section 4.2: 16).

        Args:
            videos: one video or a list of videos, see `__call__`.
            question: a text; a list of texts is asked of every video.
            num_frames: frames shown.
            max_new_tokens: length of an answer.
            prompt: a template with `{question}`.
            batch_size: prompts that the model reads together.

        Returns:
            The answer; a list of answers for a list of questions; a list of either for a list of videos.

        Raises:
            ValueError: an empty question, one with an image placeholder, or more frames than the context holds.
        """
        questions = [question] if isinstance(question, str) else list(question)
        if not questions:
            raise ValueError("`question` is an empty list; pass at least one question.")
        check_count("num_frames", num_frames)
        check_count("max_new_tokens", max_new_tokens)
        answerer = self._answerer(batch_size, self._preprocess_params)
        batch, requests = is_batch(videos), []
        for video in videos if batch else [videos]:
            source = self._processor.open_video(video)
            self._warn_of_untaught("vqa", source, stacklevel=3)
            shown = self._processor.evenly_spaced_frames(source, num_frames)
            frames = [VideoFrame(*frame) for frame in shown]
            for text in questions:
                messages = self._processor.build_messages("vqa", len(frames), question=text, prompt=prompt)
                requests.append(ClipRequest(messages, frames, expects_boxes=False, max_new_tokens=max_new_tokens))
        answerer.check_fits(requests)
        with self._model_context()():
            texts = [answer.text.strip() for answer in answerer(requests)]
        grouped = [texts[first : first + len(questions)] for first in range(0, len(texts), len(questions))]
        answers = [group[0] for group in grouped] if isinstance(question, str) else grouped
        return answers if batch else answers[0]

    def _describe(self, inputs: dict[str, Any], settings: TrackingOptions) -> Any:
        num_frames, interval, max_new_tokens = inputs["shown"]
        answerer, requests = inputs["answerer"], []
        results: list[list[dict[str, Any]]] = []
        for _, source, queries in self._open(inputs):
            self._warn_of_untaught("video_reg", source, stacklevel=4)
            shown: dict[int, list[VideoFrame]] = {}
            results.append([])
            for query in queries:
                if query.start_frame not in shown:
                    count = 1 if settings.zoom else num_frames
                    taken = self._processor.frames_from(source, query.start_frame, count, interval)
                    shown[query.start_frame] = [VideoFrame(*frame) for frame in taken]
                frames, box = shown[query.start_frame], query.box
                if settings.zoom:
                    frames = [known_window(frames[0], np.asarray(box, dtype=np.float64))]
                    box = frames[0].reference_box
                messages = self._processor.build_messages(
                    "video_reg", len(frames), box=[float(v) for v in box], prompt=settings.prompt
                )
                requests.append(ClipRequest(messages, frames, expects_boxes=False, max_new_tokens=max_new_tokens))
                results[-1].append(_described(query, source))
        answerer.check_fits(requests)
        with self._model_context()():
            answers = iter(answerer(requests))
        for items in results:
            for item in items:
                item["description"] = next(answers).text.strip()
        return results if is_batch(inputs["videos"]) else results[0]

    # ----------------------------------------------------------------------------------------------------------
    def _open(self, inputs: dict[str, Any]) -> Iterator[tuple[Any, Any, list[ObjectQuery]]]:
        """Yield each video as given, opened, and its checked queries."""
        batch = is_batch(inputs["videos"])
        videos = list(inputs["videos"]) if batch else [inputs["videos"]]
        subjects = per_video(videos, inputs["subjects"]) if batch else [inputs["subjects"]]
        for video, subject in zip(videos, subjects, strict=True):
            source = self._processor.open_video(video)
            yield video, source, make_queries(source, self._processor, subject, inputs["direction"])

    def _warn_of_untaught(self, task: str, source: Any, stacklevel: int) -> None:
        """Warn of what this checkpoint was not trained for, once of each; the level is that of the user's line."""
        sentence = self._processor.untaught(task, source.width, source.height)
        if sentence is None:
            return
        kind = sentence.partition(",")[0]
        if kind not in self._warned:
            self._warned |= {kind}
            warnings.warn(sentence, stacklevel=stacklevel)

    def _model_context(self) -> Callable[[], AbstractContextManager[Any]]:
        """Build what makes the context in which the model runs: its device, and as many threads as suit its size."""
        return with_threads(threads_for(self.model), self.device_placement)

    def _answerer(self, batch_size: int | None, options: dict[str, Any]) -> Answerer:
        settings = self._settings(options)
        rows = batch_size if batch_size is not None else self._batch_size
        how: dict[str, Any] = {} if rows is None else {"batch_size": rows}
        how |= {"vision_memory_mb": settings.vision_memory_mb, "constrained": settings.constrained, "stats": Stats()}
        handed = self.answerer
        answerer: Answerer
        if isinstance(handed, Answerer) and not isinstance(handed, type):
            answerer = handed
        elif handed is not None:
            answerer = cast(Callable[..., Answerer], handed)(self.model, self._processor, **how)
        elif settings.decoding == "drafted":
            answerer = DraftedAnswerer(self.model, self._processor, **how, compile=settings.compile)
        else:
            answerer = ClipAnswerer(self.model, self._processor, **how)
        self._stats = answerer.stats
        return answerer


def carry_pipeline(folder: str | os.PathLike[str]) -> None:
    """Copy the code of the pipeline into a checkpoint folder, whose configuration has to name `CUSTOM_PIPELINES`."""
    custom_object_save(VideoTrackingPipeline, folder)


@dataclass
class _Plan:
    """What will be tracked in one video; the session waits here, or is made when its turn comes."""

    video: Any
    queries: list[ObjectQuery]
    settings: TrackingOptions
    size: tuple[int, int]  # width, height
    session: TrackingSession | None
    keep: Callable[[Any], Any]  # wraps the video where it is opened again

    def take_session(self, processor: Any, prepare: Any) -> TrackingSession:
        """Give the session away, so that its frames and decoder can be freed once it is done."""
        session, self.session = self.session, None
        if session is None:
            source = self.keep(processor.open_video(self.video))
            session = TrackingSession(source, processor, self.queries, self.settings, True, prepare)
        return session


def _described(query: ObjectQuery, source: Any) -> dict[str, Any]:
    xmin, ymin, xmax, ymax = (v * s for v, s in zip(query.box, (source.width, source.height) * 2, strict=True))
    box = {"xmin": xmin, "ymin": ymin, "xmax": xmax, "ymax": ymax}
    return {"id": query.id, "label": query.label, "frame": query.start_frame, "box": box}
