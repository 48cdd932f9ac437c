"""Every row of the issue's list of bad input: one clear error before any model runs, in the API and on the CLI."""

import numpy as np
import pytest
from PIL import Image

from tracking_elysium.cli import main

from .media import write_mp4, write_truncated
from .oracle import PROCESSOR, fitting_model, tiny_pipeline, video

BOX = (10, 10, 30, 30)
NAN = float("nan")

# What the caller passes beside the video, and what the error must say. The frame is 64 x 48 pixels, 12 frames long.
ARGUMENTS = [
    pytest.param({"box": (70, 50, 90, 60)}, ["outside", "64 x 48"], id="box-outside"),
    pytest.param({"box": (30, 10, 10, 30)}, ["inverted"], id="box-inverted-x"),
    pytest.param({"box": (10, 30, 30, 10)}, ["inverted"], id="box-inverted-y"),
    pytest.param({"box": (10, 10, 10, 30)}, ["zero area"], id="box-zero-area"),
    pytest.param({"box": (10, NAN, 30, 30)}, ["NaN"], id="box-nan"),
    pytest.param({"box": (10, 10, float("inf"), 30)}, ["infinity"], id="box-infinite"),
    pytest.param({"box": (10, 10, 30)}, ["3 values", "four numbers"], id="box-of-3"),
    pytest.param({"box": (10, 10, 30, 30, 1)}, ["5 values", "four numbers"], id="box-of-5"),
    pytest.param({"box": (0.2, 0.2, 0.6, 0.7)}, ["looks normalized to [0, 1]", "pixels"], id="box-normalized"),
    pytest.param({"box": [BOX, (70, 50, 90, 60)]}, ["outside"], id="second-box-outside"),
    pytest.param({"expression": ""}, ["expression", "''"], id="expression-empty"),
    pytest.param({"expression": " \t"}, ["expression"], id="expression-blank"),
    pytest.param({"expression": ["a swan", ""]}, ["expression"], id="second-expression-empty"),
    pytest.param({"box": BOX, "expression": "a swan"}, ["both `box` and `expression`"], id="both"),
    pytest.param({}, ["neither `box` nor `expression`"], id="neither"),
    pytest.param({"box": BOX, "start_frame": 12}, ["start_frame", "12 frame(s)", "0 to 11"], id="start-past-the-end"),
    pytest.param({"box": BOX, "start_frame": -1}, ["start_frame", "-1"], id="start-negative"),
    pytest.param({"expression": "an <image> of"}, ["'<image>'", "reserved"], id="image-token-in-expression"),
    pytest.param({"box": BOX, "prompt": "<image> {box}"}, ["'<image>'"], id="image-token-in-prompt"),
    pytest.param({"box": BOX, "prompt": "Track it."}, ["`prompt`", "{box}"], id="prompt-without-slot"),
    pytest.param({"expression": "a", "prompt": "{box}"}, ["`prompt`", "{expression}"], id="prompt-of-the-other-task"),
    pytest.param({"expression": "a", "direction": "both"}, ["`direction`", "needs `box`"], id="backward-expression"),
    pytest.param({"box": BOX, "direction": "up"}, ["`direction`='up'", "'forward'"], id="direction-unknown"),
    pytest.param({"box": BOX, "decoding": "fast"}, ["`decoding`='fast'", "'plain'"], id="decoding-unknown"),
    pytest.param({"box": BOX, "gap_policy": "guess"}, ["`gap_policy`='guess'", "'hold'"], id="gap-policy-unknown"),
    pytest.param({"box": BOX, "overlap": 8}, ["`overlap`=8", "`clip_len`=8"], id="overlap-too-long"),
    pytest.param({"box": BOX, "batch_size": 0}, ["`batch_size`=0"], id="batch-size-zero"),
]
FILES = [
    pytest.param("missing", ["does not exist"], id="missing-file"),
    pytest.param("folder", ["folder"], id="folder"),
    pytest.param("text", ["not a video"], id="not-a-video"),
    pytest.param("empty", ["empty"], id="empty-file"),
    pytest.param("no_index", ["not a video", "truncated"], id="truncated-without-index"),
    pytest.param("audio", ["only audio"], id="audio-only"),
]


@pytest.fixture
def no_model(pipe, monkeypatch):
    """Fails when a model runs."""

    def ran(*_, **__):
        raise AssertionError("a model ran before the input was checked")

    monkeypatch.setattr(pipe.model, "generate", ran)
    monkeypatch.setattr(pipe.model.model, "get_image_features", ran)
    return pipe


def assert_says(error, words):
    message = str(error.value)
    assert "\n" not in message
    for word in words:
        assert word in message, f"{word!r} is not in {message!r}"


# --------------------------------------------------------------------------------------------------------------
# API
# --------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("arguments", "words"), ARGUMENTS)
@pytest.mark.parametrize("stream", [False, True], ids=["", "stream"])
def test_arguments(no_model, files, arguments, words, stream):
    with pytest.raises(ValueError) as error:
        no_model(str(files["good"]), **arguments, stream=stream)
    assert_says(error, words)


@pytest.mark.parametrize(("name", "words"), FILES)
def test_files(no_model, files, name, words):
    for call in (lambda v: no_model(v, box=BOX), lambda v: no_model.ask(v, "What?")):
        with pytest.raises(ValueError) as error:
            call(str(files[name]))
        assert_says(error, words)


@pytest.mark.parametrize(
    ("frames", "words"),
    [
        ([], ["zero frames"]),
        (iter([]), ["zero frames"]),
        (np.zeros((0, 8, 8, 3), np.uint8), ["zero frames"]),
        ([np.zeros((48, 64, 3), np.uint8), np.zeros((48, 60, 3), np.uint8)], ["changes size", "64 x 48", "60 x 48"]),
        (Image.new("RGB", (64, 48)), ["one image"]),
        (7, ["int"]),
        (None, ["NoneType"]),
    ],
    ids=["empty-list", "empty-iterator", "empty-array", "size-changes", "image", "number", "none"],
)
def test_frames(no_model, frames, words):
    with pytest.raises(ValueError) as error:
        no_model(frames, box=BOX)
    assert_says(error, words)


def test_unknown_argument_is_not_swallowed(pipe):
    with pytest.raises(TypeError, match="gap_polici"):
        pipe(video(3), box=BOX, gap_polici="hold")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"task": "detect", "box": BOX}, ["`task`='detect'", "'describe'"]),
        ({"task": "describe", "expression": "a swan"}, ["`task`='describe'", "`box`"]),
        ({"task": "describe", "box": BOX, "num_frames": 0}, ["`num_frames`=0"]),
        ({"labels": ["a", "b"], "box": BOX}, ["`labels` has 2 entries for 1 object"]),
    ],
    ids=["task", "describe-expression", "describe-no-frames", "labels"],
)
def test_other_arguments(no_model, arguments, words):
    with pytest.raises(ValueError) as error:
        no_model(video(4), **arguments)
    assert_says(error, words)


@pytest.mark.parametrize("question", ["", "  ", "what is <image>?", []], ids=["empty", "blank", "image-token", "none"])
def test_questions(no_model, question):
    with pytest.raises(ValueError, match="`question`"):
        no_model.ask(video(4), question)


def test_lists_of_a_batch_must_fit(no_model):
    with pytest.raises(ValueError, match="`expression` has 3 entries for 2 videos"):
        no_model([video(3), video(3)], expression=["a", "b", "c"])


def test_more_frames_than_the_context_holds():
    small = tiny_pipeline(context=500)
    small.model.generate = small.model.model.get_image_features = None  # nothing may run
    with pytest.raises(ValueError, match="32 frames need .* context holds 500"):
        small(video(32), box=BOX)
    with pytest.raises(ValueError, match="16 frames need"):
        small.ask(video(40), "What?")


# --------------------------------------------------------------------------------------------------------------
# doubtful, but fine: frames of every kind, and videos that break in the middle
# --------------------------------------------------------------------------------------------------------------
def _frames(kind, count=3):
    rng = np.random.default_rng(0)
    if kind == "RGBA":
        return list(rng.integers(0, 255, (count, 48, 64, 4), dtype=np.uint8))
    if kind == "gray":
        return list(rng.integers(0, 255, (count, 48, 64), dtype=np.uint8))
    if kind == "16-bit":
        return [Image.fromarray(rng.integers(0, 65535, (48, 64), dtype=np.uint16)) for _ in range(count)]
    if kind == "palette":
        return [Image.fromarray(frame).convert("P") for frame in video(count)]
    return {"one": video(1), "1x1": [np.zeros((1, 1, 3), np.uint8)] * 3}[kind]


@pytest.mark.parametrize("kind", ["RGBA", "gray", "16-bit", "palette", "one", "1x1"])
def test_unusual_frames_are_tracked(pipe, kind):
    frames = _frames(kind)
    results = pipe(frames, expression="a thing")
    assert [result["frame"] for result in results] == list(range(len(frames)))
    box = (0, 0, 1, 1) if kind == "1x1" else BOX
    first = pipe(frames, box=box)[0]["objects"][0]
    assert list(first["box"].values()) == pytest.approx(box)


def test_a_box_that_sticks_out_is_cut_with_a_warning(pipe):
    with pytest.warns(UserWarning, match="sticks out"):
        first = pipe(_frames("gray"), box=(-10, 5, 30, 30))[0]["objects"][0]
    assert first["box"]["xmin"] == 0.0


@pytest.mark.parametrize("kind", ["file", "stream"])
def test_a_video_that_breaks_gives_the_frames_so_far_and_a_warning(pipe, tmp_path, kind):
    if kind == "file":
        source = str(write_truncated(tmp_path / "cut.mp4"))
    else:
        source = iter([*video(9), np.zeros((8, 8, 3), np.uint8), *video(9)])
    with pytest.warns(UserWarning, match="breaks off|truncated"):
        results = pipe(source, box=(10, 10, 30, 30))
    frames = [result["frame"] for result in results]
    assert frames == list(range(len(frames))) and 0 < len(frames) < 24
    assert len(frames) == 9 or kind == "file"


# --------------------------------------------------------------------------------------------------------------
# CLI
# --------------------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkpoint")
    fitting_model(context=700).save_pretrained(folder)
    PROCESSOR.save_pretrained(folder)
    return str(folder)


def command_line(video, arguments):
    words = ["track", str(video)]
    for name, value in arguments.items():
        option = "--" + name.replace("_", "-")
        several = value if isinstance(value, list) else [value]
        for item in several:
            text = ",".join(str(number) for number in item) if isinstance(item, tuple) else str(item)
            words.append(f"{option}={text}")
    return words


def assert_one_line(capsys, code, words):
    out, err = capsys.readouterr()
    assert code == 2 and out == ""
    assert err.count("\n") == 1 and err.startswith("elysium") and "Traceback" not in err
    for word in words:
        assert word.strip("`") in err, f"{word!r} is not in {err!r}"


@pytest.mark.parametrize(("arguments", "words"), ARGUMENTS)
def test_cli_arguments(capsys, files, checkpoint, arguments, words):
    code = main([*command_line(files["good"], arguments), "--model", checkpoint])
    assert_one_line(capsys, code, words)


@pytest.mark.parametrize(("name", "words"), FILES)
@pytest.mark.parametrize("command", ["track", "describe", "ask"])
def test_cli_files(capsys, files, checkpoint, command, name, words):
    rest = {"track": ["--box=10,10,30,30"], "describe": ["--box=10,10,30,30"], "ask": ["What?"]}[command]
    code = main([command, str(files[name]), *rest, "--model", checkpoint])
    assert_one_line(capsys, code, words)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["track"], ["video"]),
        (["track", "GOOD", "--box=a,b,c,d"], ["--box 'a,b,c,d'", "x1,y1,x2,y2"]),
        (["track", "GOOD", "--box=10,10,30,30", "--output", "x.avi"], ["--output 'x.avi'", ".mp4"]),
        (["track", "GOOD", "--box=10,10,30,30", "--contact-sheet", "x.mp4"], ["--contact-sheet", ".png"]),
        (["track", "GOOD", "--box=10,10,30,30", "--clip-len", "x"], ["--clip-len"]),
        (["track", "GOOD", "--box=10,10,30,30", "--dtype", "int3"], ["--dtype 'int3'", "bfloat16"]),
        (["track", "GOOD", "--box=10,10,30,30", "--device", "toaster"], ["--device 'toaster'"]),
        (["track", "GOOD", "--box=10,10,30,30", "--model", "./no/such/folder"], ["--model './no/such/folder'"]),
        (["describe", "GOOD"], ["--box is missing"]),
        (["describe", "GOOD", "--box=90,90,95,95"], ["outside"]),
        (["ask", "GOOD", " "], ["question is empty"]),
        (["ask", "GOOD", "what is <image>?"], ["reserved"]),
        (["dance"], ["dance"]),
    ],
    ids=lambda value: "-".join(value)[:40] if isinstance(value, list) else "",
)
def test_cli_other_errors(capsys, files, checkpoint, words, expected):
    words = [str(files["good"]) if word == "GOOD" else word for word in words]
    model = [] if "--model" in words or len(words) < 3 else ["--model", checkpoint]
    code = main([*words, *model])
    assert_one_line(capsys, code, expected)


def test_cli_more_frames_than_the_context_holds(capsys, tmp_path, checkpoint):
    path = write_mp4(tmp_path / "long.mp4", num_frames=30)
    code = main(["track", str(path), "--box=10,10,30,30", "--model", checkpoint])
    assert_one_line(capsys, code, ["30 frames need", "context holds 700"])


def test_cli_broken_video_warns_and_goes_on(capsys, tmp_path, checkpoint):
    path = write_truncated(tmp_path / "cut.mp4")
    short = ["--clip-len", "4", "--single-pass-up-to", "0"]  # the tiny model's context is short
    code = main(["track", str(path), "--box=10,10,30,30", *short, "--model", checkpoint])
    out, err = capsys.readouterr()
    assert code == 0 and " frames, 1 object(s)" in out
    lines = err.splitlines()  # the packets may end later than the last frame that decodes: said twice, then
    assert lines and all(line.startswith("elysium track: warning: ") and "breaks off" in line for line in lines)
