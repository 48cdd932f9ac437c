import gc
import json
import subprocess
import sys
import textwrap
import threading
import time
import weakref
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import pipeline

from processing_elysium.frames import FrameList
from tracking_elysium import session as session_module
from tracking_elysium.options import TrackingOptions
from tracking_elysium.pipeline_video_tracking import CUSTOM_PIPELINES, VideoTrackingPipeline
from tracking_elysium.zoom import TEMPLATE_FACTOR, window_around
from train.checkpoint_code import carried_code

from .media import write_mp4
from .oracle import (
    PROCESSOR,
    Oracle,
    OracleAnswerer,
    fitting_model,
    moving_box,
    question_of,
    tiny_pipeline,
    video,
)

HEIGHT, WIDTH = 40, 60


def px(frame, lane=0):
    return tuple((moving_box(frame, lane) * [WIDTH, HEIGHT, WIDTH, HEIGHT]).tolist())


def values(result, position=0):
    return list(result["objects"][position]["box"].values())


# --------------------------------------------------------------------------------------------------------------
# results, with an answerer that knows
# --------------------------------------------------------------------------------------------------------------
def test_box_and_expression(pipe, oracle):
    for results in (pipe(video(40), box=px(0)), pipe(video(40), expression="the black swan")):
        assert [result["frame"] for result in results] == list(range(40))
        for result in results:
            assert set(result) == {"frame", "timestamp", "objects"}
            assert set(result["objects"][0]) == {"id", "label", "score", "present", "box"}
            np.testing.assert_allclose(values(result), px(result["frame"]), atol=0.31)
    assert results[0]["objects"][0]["label"] == "the black swan"
    json.dumps(results, allow_nan=False)  # plain numbers


def test_start_box_is_reported_as_given(pipe, oracle):
    np.testing.assert_allclose(values(pipe(video(4), box=px(0))[0]), px(0))


def test_several_objects(pipe, oracle):
    results = pipe(video(5), box=[px(0), px(2, lane=1)], start_frame=[0, 2], labels=["a", "b"])
    assert [[item["label"] for item in result["objects"]] for result in results] == [["a"]] * 2 + [["a", "b"]] * 3
    results = pipe(video(3), expression=["a swan", "a goose"])
    assert [(item["id"], item["label"]) for item in results[0]["objects"]] == [(0, "a swan"), (1, "a goose")]


def test_a_box_of_a_former_result_starts_again(pipe, oracle):
    first = pipe(video(4), box=px(0))[2]
    again = pipe(video(9), box=first["objects"][0]["box"], start_frame=2)
    assert [result["frame"] for result in again] == list(range(2, 9))


@pytest.mark.parametrize(
    "make",
    [list, tuple, iter, np.stack, lambda v: torch.from_numpy(np.stack(v))],
    ids=["list", "tuple", "iterator", "array", "tensor"],
)
def test_kinds_of_video(pipe, oracle, make):
    assert len(pipe(make(video(10)), box=px(0))) == 10


def test_pil_frames_and_files(pipe, oracle, tmp_path):
    assert len(pipe([Image.fromarray(frame) for frame in video(3)], box=px(0))) == 3
    path = write_mp4(tmp_path / "v.mp4", 6)
    for source in (str(path), path, path.read_bytes()):
        results = pipe(source, box=px(0))
        assert [result["timestamp"] for result in results] == pytest.approx([n / 10 for n in range(6)])


def test_stream_yields_frames_as_they_are_decided(pipe, oracle):
    stream = pipe(video(50), box=px(0), stream=True)
    assert next(stream)["frame"] == 0
    assert len(oracle.calls) == 1  # the first clip only
    rest = list(stream)
    assert [result["frame"] for result in rest] == list(range(1, 50)) and len(oracle.calls) == 7


def test_a_camera_is_tracked_while_it_runs(pipe, oracle):
    taken = []

    def camera():
        for frame in video(255):
            taken.append(1)
            yield frame

    stream = pipe(camera(), box=px(0), stream=True, single_pass_up_to=0)
    next(stream)
    assert len(taken) <= 8 + 8 + 1  # the clip, the next in the queue, and a frame in the thread's hand


@pytest.mark.parametrize("ends", ["read to the end", "closed", "forgotten", "failed"])
def test_a_reader_that_stops_leaves_no_thread_and_no_open_file(pipe, oracle, tmp_path, ends):
    path, descriptors = str(write_mp4(tmp_path / "v.mp4", 40)), Path("/proc/self/fd")
    short = {"clip_len": 4, "single_pass_up_to": 0, "stream": True, "box": (3, 4, 16, 12)}
    list(pipe(path, **short))  # what libraries open once stays open
    threads, files = threading.active_count(), len(list(descriptors.iterdir())) if descriptors.exists() else 0
    for _ in range(3):
        stream = pipe(path, **short)
        next(stream)
        if ends == "failed":
            with monkeypatched(oracle, "answer", None), pytest.raises(TypeError):
                list(stream)
        elif ends == "closed":
            stream.close()
        elif ends == "read to the end":
            list(stream)
        del stream
    gc.collect()
    deadline = time.monotonic() + 20
    while threading.active_count() > threads and time.monotonic() < deadline:
        time.sleep(0.05)
    assert threading.active_count() <= threads
    assert not descriptors.exists() or len(list(descriptors.iterdir())) <= files


@contextmanager
def monkeypatched(target, name, value):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(target, name, value)
        yield


def test_the_next_clip_is_read_while_this_one_is_answered_and_no_further(pipe, oracle, monkeypatch):
    reads = []
    read = FrameList.read

    def watching(self, indices):
        reads.append(list(indices))
        return read(self, indices)

    monkeypatch.setattr(FrameList, "read", watching)
    stream = pipe(video(40), box=px(0), stream=True, clip_len=4, single_pass_up_to=0)
    next(stream)
    deadline = time.monotonic() + 20
    while len(reads) < 3 and time.monotonic() < deadline:
        time.sleep(0.02)
    time.sleep(0.3)
    assert len(reads) == 3  # this one, the next in the queue, and the one that waits for its turn
    assert len(list(stream)) == 39


def test_an_error_of_the_video_reaches_the_caller(pipe, oracle, monkeypatch):
    def failing(self, indices):
        raise OSError("the disk is gone")

    monkeypatch.setattr(FrameList, "read", failing)
    with pytest.raises(OSError, match="the disk is gone"):
        pipe(video(40), box=px(0))


def test_batch_of_videos(pipe, oracle):
    videos = [video(40), video(3), video(35)]
    results = pipe(videos, box=[px(0), [px(0), px(0, 1)], px(4)], start_frame=[0, 0, 4])
    assert [len(result) for result in results] == [40, 3, 31]
    assert len(results[1][0]["objects"]) == 2
    assert max(len(call) for call in oracle.calls) == 4  # all rows in one call
    streamed = list(pipe(videos, expression="a swan", stream=True, batch_size=2))
    assert {item["video"] for item in streamed} == {0, 1, 2} and len(streamed) == 78
    assert max(len(call) for call in oracle.calls[-8:]) == 2


def test_a_batch_of_files_does_not_keep_them_all_open(pipe, oracle, tmp_path, monkeypatch):
    videos = [str(write_mp4(tmp_path / f"{number}.mp4", 4)) for number in range(6)]
    alive = weakref.WeakSet()
    opened = type(PROCESSOR).open_video

    def watching(self, source, fps=None):
        source = opened(self, source, fps)
        alive.add(source)
        return source

    monkeypatch.setattr(type(PROCESSOR), "open_video", watching)
    for _ in pipe(videos, box=(3, 4, 16, 12), stream=True, batch_size=2):
        assert len(alive) <= 3
    assert len(oracle.calls) == 3


def test_options_of_the_constructor_and_of_the_call(pipe, oracle):
    options = {"answerer": pipe.answerer, "clip_len": 4, "single_pass_up_to": 0}
    own = VideoTrackingPipeline(model=pipe.model, processor=PROCESSOR, device="cpu", **options)
    own(video(7), box=px(0))
    assert [len(call[0].frames) for call in oracle.calls] == [4, 4]
    own(video(7), box=px(0), clip_len=7)
    assert len(oracle.calls[-1][0].frames) == 7
    with pytest.raises(ValueError, match="`overlap`=9"):
        VideoTrackingPipeline(model=pipe.model, processor=PROCESSOR, device="cpu", overlap=9)
    with pytest.raises(TypeError):
        VideoTrackingPipeline(model=pipe.model, processor=PROCESSOR, device="cpu", clip_length=4)
    with pytest.raises(ValueError, match="`constrained`='no' is unknown; use True or False"):
        pipe(video(3), box=px(0), constrained="no")


def test_released_processor_brings_its_tracking_options(pipe, oracle, monkeypatch):
    """A converted checkpoint cuts every video into clips, unless the call says otherwise."""
    monkeypatch.setattr(pipe.processor, "tracking_defaults", {"single_pass_up_to": 0})
    pipe(video(15), box=px(0))
    assert [len(call[0].frames) for call in oracle.calls] == [8, 8]
    pipe(video(15), box=px(0), single_pass_up_to=32)
    assert len(oracle.calls[-1][0].frames) == 15


def test_describe_shows_frames_from_the_start_frame_on(pipe, oracle):
    results = pipe(video(40), box=[px(5), px(5)], start_frame=5, task="describe", num_frames=4, frame_interval=3)
    (requests,) = oracle.calls
    assert [frame.index for frame in requests[0].frames] == [5, 8, 11, 14]
    assert requests[0].frames is requests[1].frames
    assert [set(item) for item in results] == [{"id", "label", "frame", "box", "description"}] * 2
    batch = pipe([video(3), video(4)], box=px(0), task="describe")
    assert [len(items) for items in batch] == [1, 1]


def test_describe_with_zoom_shows_each_object_in_its_own_window(pipe, oracle):
    frames = video(10)
    pipe(frames, box=[px(5), px(5, 1)], start_frame=5, task="describe", zoom=True)
    (requests,) = oracle.calls
    for request, box in zip(requests, (px(5), px(5, 1)), strict=True):
        (shown,) = request.frames
        height, width = frames[5].shape[:2]
        window = window_around(np.array(box) / [width, height, width, height], width, height, TEMPLATE_FACTOR)
        np.testing.assert_array_equal(shown.image, window.crop(frames[5]))
        inside = window.from_frame(np.array(box) / [width, height, width, height], width, height).clip(0, 1)
        np.testing.assert_allclose(shown.reference_box, inside)
        assert shown.reference is shown and PROCESSOR.format_box(inside) in question_of(request)


def test_ask(pipe, oracle):
    assert isinstance(pipe.ask(video(40), "What is it?"), str)
    assert len(oracle.calls[-1][0].frames) == 16
    assert len(pipe.ask(video(4), ["What?", "Where?"])) == 2
    assert oracle.calls[-1][0].frames is oracle.calls[-1][1].frames
    answers = pipe.ask([video(4), video(5)], ["What?", "Where?"])
    assert [len(group) for group in answers] == [2, 2]
    assert len(pipe.ask([video(4), video(5)], "What?")) == 2
    pipe.ask(video(2), "Where?", prompt="Answer me: {question}")
    assert "Answer me: Where?" in oracle.questions[-1]


# --------------------------------------------------------------------------------------------------------------
# the real thing at tiny size
# --------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("constrained", [True, False])
def test_drafted_and_plain_decoding_give_the_same_tracks(pipe, constrained):
    videos, short = [video(5, seed=1), video(6, seed=2)], {"clip_len": 4, "single_pass_up_to": 0}
    short["constrained"] = constrained
    subjects = {"box": [px(0), [px(1), px(2)]]}
    fast = pipe(videos, **subjects, **short)
    fast_stats = pipe.stats
    slow = pipe(videos, **subjects, **short, decoding="plain")
    assert [[strip_scores(r) for r in v] for v in fast] == [[strip_scores(r) for r in v] for v in slow]
    scores = [[[item["score"] for r in v for item in r["objects"]] for v in both] for both in (fast, slow)]
    for a, b in zip(*scores, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-4)
    assert fast_stats["forwards_per_frame"] <= pipe.stats["forwards_per_frame"]
    if constrained:  # nonsense, but in every frame a box that the model wrote
        assert all(score > 0 for score in scores[0][0] + scores[0][1])


@pytest.mark.parametrize("ready", [True, False])
def test_an_answerer_is_handed_over_ready_or_as_what_builds_one(ready):
    oracle, model = Oracle(), fitting_model()
    build = partial(OracleAnswerer, oracle)
    answerer = build(model, PROCESSOR, batch_size=2) if ready else build
    own = VideoTrackingPipeline(model=model, processor=PROCESSOR, device="cpu", answerer=answerer)
    frames = own(video(5), box=px(0), clip_len=3, single_pass_up_to=0)
    np.testing.assert_allclose(values(frames[4]), px(4), atol=0.61)  # half a cell of 60 pixels
    assert len(oracle.calls) == 2 and own.stats["frames"] == 5


@pytest.mark.parametrize("decoding", ["drafted", "plain"])
def test_a_model_with_adapters_answers_as_the_merged_one(pipe, decoding):
    """As a trainer leaves it: wrapped, in training mode, with dropout in the adapters."""

    def boxes(tracks):
        return [strip_scores(frame) for frame in tracks]

    peft = pytest.importorskip("peft")
    torch.manual_seed(0)
    config = peft.LoraConfig(
        target_modules=r".*\.language_model\..*_proj", r=4, lora_dropout=0.5, init_lora_weights=False
    )
    model = peft.get_peft_model(fitting_model(PROCESSOR), config).train()
    adapted = VideoTrackingPipeline(model=model, processor=PROCESSOR, decoding=decoding)
    clip = video(6)
    tracks, text = adapted(clip, box=px(0)), adapted.ask(clip, "what?", max_new_tokens=6)
    unadapted = VideoTrackingPipeline(model=fitting_model(PROCESSOR), processor=PROCESSOR)
    assert boxes(tracks) != boxes(unadapted(clip, box=px(0)))
    assert adapted.model is model
    merged = VideoTrackingPipeline(model=model.merge_and_unload(), processor=PROCESSOR)
    assert boxes(tracks) == boxes(merged(clip, box=px(0)))
    assert text == merged.ask(clip, "what?", max_new_tokens=6)


def test_adapters_of_virtual_tokens_are_refused(pipe):
    peft = pytest.importorskip("peft")
    config = peft.PromptTuningConfig(num_virtual_tokens=2, task_type="CAUSAL_LM", token_dim=48, num_layers=2)
    config.num_attention_heads, config.num_transformer_submodules = 4, 1
    wrapped = peft.get_peft_model(fitting_model(PROCESSOR), config)
    with pytest.raises(ValueError, match="PROMPT_TUNING.*such as LoRA"):
        VideoTrackingPipeline(model=wrapped, processor=PROCESSOR)(video(3), box=px(0))


def strip_scores(result):
    return {**result, "objects": [{k: v for k, v in item.items() if k != "score"} for item in result["objects"]]}


def test_stats_of_the_last_call(pipe):
    stream = pipe(video(5), box=[px(0), px(1)], stream=True, clip_len=3, single_pass_up_to=0)
    next(stream)
    begun = pipe.stats
    list(stream)
    stats = pipe.stats
    assert begun["frames"] >= 1 and begun["answers"] == 0  # a given box does not wait for the end of an answer
    assert (stats["answers"], stats["frames"], stats["boxes"]) == (4, 5, 10)
    assert stats["forwards"] <= stats["tokens"] and stats["accepted"] <= stats["drafted"]
    assert stats["forwards_per_frame"] > 0 and stats["peak_memory_mb"] > 0
    for stage in ("decode", "vision", "prefill", "llm", "parse"):
        assert stats[f"{stage}_s"] >= 0
    json.dumps(stats, allow_nan=False)
    pipe.ask(video(2), "What?", max_new_tokens=3)
    assert (pipe.stats["answers"], pipe.stats["frames"], pipe.stats["forwards_per_frame"]) == (1, 0, None)


def test_a_batch_gives_what_single_videos_give(pipe):
    videos, short = [video(5, seed=1), video(8, seed=2)], {"clip_len": 4, "single_pass_up_to": 0}
    together = pipe(videos, expression=["a swan", ["b", "c"]], **short)
    alone = [pipe(videos[0], expression="a swan", **short), pipe(videos[1], expression=["b", "c"], **short)]
    for a, b in zip(together, alone, strict=True):
        assert [r["frame"] for r in a] == [r["frame"] for r in b]
        assert [[values(r, n) for n in range(len(r["objects"]))] for r in a] == [
            [values(r, n) for n in range(len(r["objects"]))] for r in b
        ]


def test_registered_on_import(pipe):
    assert isinstance(
        pipeline("video-tracking", model=pipe.model, processor=PROCESSOR, device="cpu"), VideoTrackingPipeline
    )


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkpoint")
    tiny_pipeline().save_pretrained(folder)
    return folder


def test_loads_from_a_folder(checkpoint):
    loaded = pipeline("video-tracking", model=str(checkpoint), device="cpu")
    assert isinstance(loaded, VideoTrackingPipeline)
    assert len(loaded(video(3), box=px(0))) == 3


def test_what_is_saved_and_loaded_again_is_the_same(tmp_path, monkeypatch):
    pipe = tiny_pipeline()
    asked = {"tracking_defaults": {"single_pass_up_to": 3, "clip_len": 3}, "trained_on": {"tasks": ["sot"]}}
    for name, value in asked.items():
        monkeypatch.setattr(pipe.processor, name, value)
    pipe.save_pretrained(tmp_path / "once")
    once = pipeline("video-tracking", model=str(tmp_path / "once"), device="cpu")
    once.save_pretrained(tmp_path / "twice")
    twice = pipeline("video-tracking", model=str(tmp_path / "twice"), device="cpu")
    for name in ("processor_config.json", "chat_template.jinja"):
        assert (tmp_path / "once" / name).read_text() == (tmp_path / "twice" / name).read_text(), name
    for again in (once, twice):
        assert again._settings({}) == pipe._settings({}) != TrackingOptions()
        for name in ("num_image_tokens", "image_token", "box_rounding", "compat", "chat_template", *asked):
            assert getattr(again.processor, name) == getattr(pipe.processor, name), name
        for found, wanted in zip(again(video(7), box=px(0)), pipe(video(7), box=px(0)), strict=True):
            assert values(found) == values(wanted)
            assert found["objects"][0]["score"] == pytest.approx(wanted["objects"][0]["score"], rel=1e-4)
        assert again.ask(video(2), "What?", max_new_tokens=5) == pipe.ask(video(2), "What?", max_new_tokens=5)


def test_the_folder_carries_the_code(checkpoint):
    for name in ("pipeline_video_tracking", "session", "clips", "answering", "drafted_answering", "queries", "boxes"):
        assert (checkpoint / f"{name}.py").is_file()


def test_saving_replaces_links_and_leaves_the_configuration(pipe, tmp_path):
    source = tmp_path / "source.py"
    source.write_text("kept")
    folder = tmp_path / "folder"
    folder.mkdir()
    for name, target in (("boxes.py", source), ("session.py", Path(session_module.__file__))):
        (folder / name).symlink_to(target)  # another file, and the very file that is copied
    pipe.save_pretrained(folder)
    assert not [path for path in folder.iterdir() if path.is_symlink()] and source.read_text() == "kept"
    assert (folder / "session.py").read_bytes() == Path(session_module.__file__).read_bytes()
    assert set(carried_code()) == {path.name for path in folder.glob("*.py")}
    saved = json.loads((folder / "config.json").read_text())
    assert saved["custom_pipelines"] == CUSTOM_PIPELINES
    assert not hasattr(pipe.model.config, "custom_pipelines")  # in a living one it would ask for remote code


SAVERS = {
    "model": lambda pipe: pipe.model,
    "base model": lambda pipe: pipe.model.model,
    "configuration": lambda pipe: pipe.model.config,
    "processor": lambda pipe: pipe.processor,
    "image processor": lambda pipe: pipe.processor.image_processor,
    "pipeline": lambda pipe: pipe,
}


@pytest.mark.parametrize("name", SAVERS)
def test_nothing_is_saved_through_links(pipe, tmp_path, name):
    """As onto a clone's own checkpoint folder, whose code files lead to the packages."""
    folder, source, code = tmp_path / "elysium", tmp_path / "source.py", carried_code()
    folder.mkdir()
    source.write_text("kept")
    for file, path in code.items():
        (folder / file).symlink_to(path)
    (folder / "boxes.py").unlink()
    (folder / "boxes.py").symlink_to(source)  # of another clone
    (folder / "modeling_elysium.py").unlink()
    (folder / "modeling_elysium.py").symlink_to("gone.py")
    before = {path: path.read_bytes() for path in code.values()}
    SAVERS[name](pipe).save_pretrained(folder)
    assert source.read_text() == "kept" and {path: path.read_bytes() for path in code.values()} == before
    assert not [path.name for path in folder.iterdir() if path.is_symlink()]
    for file in set(code) - {"boxes.py", "modeling_elysium.py"}:  # what another part needs is still there
        assert (folder / file).read_bytes() == before[code[file]], file


@pytest.mark.slow
def test_loads_with_remote_code_where_the_package_is_not_importable(checkpoint, tmp_path):
    script = f"""
        import sys

        class Hidden:  # makes our packages unimportable, installed or not
            def find_spec(self, name, path=None, target=None):
                if name.partition(".")[0] in ("modeling_elysium", "processing_elysium", "tracking_elysium"):
                    raise ModuleNotFoundError(name)

        sys.meta_path.insert(0, Hidden())
        import numpy as np
        from transformers import pipeline
        pipe = pipeline("video-tracking", model={str(checkpoint)!r}, trust_remote_code=True, device="cpu")
        frames = [np.zeros((40, 60, 3), np.uint8)] * 3
        print(len(pipe(frames, box=(5, 5, 20, 20))), pipe(frames, box=(5, 5, 20, 20), task="describe")[0]["id"])
    """
    done = subprocess.run(
        [sys.executable, "-I", "-c", textwrap.dedent(script)], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.split()[-2:] == ["3", "0"]
