"""Options: one list of them, and one clear error for every value that cannot be used."""

import argparse
import inspect
import re
from dataclasses import fields

import numpy as np
import pytest

from tracking_elysium.answering import ClipAnswerer
from tracking_elysium.cli import make_parser
from tracking_elysium.cli.commands import tracking_options
from tracking_elysium.drafted_answering import DraftedAnswerer
from tracking_elysium.options import LARGEST, TrackingOptions, options_given
from tracking_elysium.pipeline_video_tracking import VideoTrackingPipeline

from .oracle import PROCESSOR, fitting_model, tiny_pipeline, video

BOX = (10, 10, 30, 30)
NAMES = [one.name for one in fields(TrackingOptions)]
INFINITE, NAN = float("inf"), float("nan")
NO_COUNTS = [4.5, 4.0, "8", -1, INFINITE, NAN, True, LARGEST + 1, 10**30, 10**5000, [8], None]
WRONG = {
    "clip_len": [0, *NO_COUNTS],
    "overlap": [8, *NO_COUNTS],
    "single_pass_up_to": NO_COUNTS,
    "vision_memory_mb": [0, *NO_COUNTS[:-1]],
    "stall_timeout": [0, -1, INFINITE, NAN, "60", True, 1e300],
    "gap_policy": ["guess", 1, [], None],
    "rsot_continuation": ["", 1, None],
    "decoding": ["fast", {}, None],
    "constrained": [1, "yes", None],
    "compile": [0, "no", None],
    "frame_by_frame": [1, "yes", None],
    "prompt": [1, b"{box}"],
}
COUNTS_OF_CALLS = {"max_new_tokens": 64, "num_frames": 8, "frame_interval": 1}


@pytest.mark.parametrize("name", WRONG)
def test_values_of_no_use(name):
    for value in WRONG[name]:
        with pytest.raises(ValueError, match=f"^`{name}`=") as error:
            TrackingOptions(**{name: value})
        assert len(str(error.value)) < 300
    for value in (np.int64(4), 4) if name == "clip_len" else ():
        assert TrackingOptions(clip_len=value).clip_len == 4


@pytest.mark.parametrize("name", COUNTS_OF_CALLS)
def test_counts_of_a_call(pipe, name):
    for value in (0, *NO_COUNTS):
        with pytest.raises(ValueError, match=f"^`{name}`="):
            pipe(video(3), box=BOX, task="describe", **{name: value})
        if name != "frame_interval":
            with pytest.raises(ValueError, match=f"^`{name}`="):
                pipe.ask(video(3), "What?", **{name: value})


@pytest.mark.parametrize("where", ["call", "construction"])
def test_an_unknown_option_lists_those_there_are(pipe, where):
    for kind in (ValueError, TypeError):  # of no use, and as in any call
        with pytest.raises(kind, match="`gap_polici` is no option") as error:
            if where == "call":
                pipe(video(3), box=BOX, gap_polici="hold")
            else:
                VideoTrackingPipeline(model=pipe.model, processor=PROCESSOR, gap_polici="hold")
        assert all(name in str(error.value) for name in (*NAMES, "batch_size"))


def test_wrong_values_are_told_at_construction(pipe):
    with pytest.raises(ValueError, match="^`clip_len`='8'"):
        VideoTrackingPipeline(model=pipe.model, processor=PROCESSOR, clip_len="8")


def test_none_keeps_a_default_that_has_no_use_for_it():
    given = {"clip_len": None, "prompt": None, "vision_memory_mb": None, "stall_timeout": None}
    assert options_given(given) == {"stall_timeout": None}


def test_every_option_has_its_flag_and_its_line(pipe):
    (commands,) = (a for a in make_parser()._actions if isinstance(a, argparse._SubParsersAction))
    flags = {flag for action in commands.choices["track"]._actions for flag in action.option_strings}
    assert {"--" + name.replace("_", "-") for name in NAMES} <= flags
    documented = re.findall(r"^    (\w+): ", inspect.getdoc(TrackingOptions), re.MULTILINE)
    assert [name for name in documented if name in NAMES] == NAMES


def test_flags_give_what_was_typed():
    def typed(*words):
        return tracking_options(make_parser().parse_args(["track", "v.mp4", *words]))

    assert typed() == {}  # what is not typed is left to the checkpoint and the defaults
    assert typed("--clip-len=4", "--no-constrained", "--compile", "--stall-timeout=none") == {
        "clip_len": 4,
        "constrained": False,
        "compile": True,
        "stall_timeout": None,
    }
    assert typed("--stall-timeout", "2.5", "--prompt", "none") == {"stall_timeout": 2.5, "prompt": "none"}


def test_one_default_of_constrained(pipe):
    model = fitting_model()
    wanted = TrackingOptions().constrained
    for kind in (ClipAnswerer, DraftedAnswerer):
        assert kind(model, PROCESSOR).constrained is wanted
    assert pipe._answerer(None, {}).constrained is wanted


# --------------------------------------------------------------------------------------------------------------
# what a checkpoint asks for
# --------------------------------------------------------------------------------------------------------------
@pytest.fixture
def own_pipe(monkeypatch):
    """A pipeline whose processor may be changed."""
    return tiny_pipeline()


def test_a_checkpoint_says_how_it_wants_to_be_run(own_pipe, monkeypatch):
    monkeypatch.setattr(own_pipe.processor, "tracking_defaults", {"single_pass_up_to": 5, "clip_len": 4})
    assert own_pipe._settings({}) == TrackingOptions(single_pass_up_to=5, clip_len=4)
    assert own_pipe._settings({"clip_len": 8}) == TrackingOptions(single_pass_up_to=5)


@pytest.mark.parametrize("wrong", [{"clip_len": "8"}, {"single_pas": 8}], ids=str)
def test_what_a_checkpoint_asks_for_is_checked_when_it_is_loaded(own_pipe, monkeypatch, wrong):
    monkeypatch.setattr(own_pipe.processor, "tracking_defaults", wrong)
    with pytest.raises(
        ValueError, match="`tracking_defaults` of the checkpoint's processor_config.json: `(clip_len|single_pas)`"
    ):
        VideoTrackingPipeline(model=own_pipe.model, processor=own_pipe.processor)
