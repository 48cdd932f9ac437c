import csv
import json
import re
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

import tracking_elysium.cli as cli
import tracking_elysium.pipeline_video_tracking as pipeline_module
from tests.tracking.media import write_mp4
from tests.tracking.oracle import PROCESSOR, Oracle, fitting_model
from tests.tracking.test_masks import tiny
from tracking_elysium.cli import main, make_parser, resolve_model


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkpoint")
    fitting_model().save_pretrained(folder)
    PROCESSOR.save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return str(write_mp4(tmp_path_factory.mktemp("clip") / "clip.mp4", 40, width=64, height=48))


@pytest.fixture
def oracle(monkeypatch):
    """Commands answered by the oracle instead of the model."""
    oracle = Oracle({3: "?"})

    class Answerer(pipeline_module.ClipAnswerer):
        def __init__(self, *args, compile=False, **options):
            super().__init__(*args, **options)

        def __call__(self, requests):
            return oracle(requests)

    monkeypatch.setattr(pipeline_module, "ClipAnswerer", Answerer)
    monkeypatch.setattr(pipeline_module, "DraftedAnswerer", Answerer)
    return oracle


def run(capsys, *words):
    code = main([str(word) for word in words])
    out, err = capsys.readouterr()
    assert code == 0, err
    return out, err


# --------------------------------------------------------------------------------------------------------------
# track
# --------------------------------------------------------------------------------------------------------------
def test_track_writes_everything(capsys, tmp_path, clip, checkpoint, oracle):
    names = {"--output": "o.mp4", "--json": "o.json", "--csv": "o.csv", "--contact-sheet": "o.png"}
    wanted = {option: tmp_path / "made" / name for option, name in names.items()}
    files = [word for pair in wanted.items() for word in pair]
    out, err = run(capsys, "track", clip, "--expression", "the swan", "--model", checkpoint, *files)
    assert err == ""
    assert "40 frames, 1 object(s)" in out and all(f"wrote {path}" in out for path in wanted.values())

    document = json.loads(wanted["--json"].read_text())
    assert (document["width"], document["height"], document["fps"]) == (64, 48, 10.0)
    assert document["objects"] == [{"id": 0, "label": "the swan", "start_frame": 0, "expression": "the swan"}]
    assert [frame["frame"] for frame in document["frames"]] == list(range(40))
    assert document["frames"][7]["timestamp"] == pytest.approx(0.7)
    assert document["frames"][3]["objects"][0]["score"] == 0.0
    assert set(document["frames"][7]["objects"][0]["box"]) == {"xmin", "ymin", "xmax", "ymax"}

    rows = list(csv.DictReader(wanted["--csv"].open()))
    assert len(rows) == 40 and rows[7]["timestamp"] == "0.7"
    assert float(rows[7]["xmax"]) == document["frames"][7]["objects"][0]["box"]["xmax"]

    with av.open(str(wanted["--output"])) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.pix_fmt, float(stream.average_rate)) == ("h264", "yuv420p", 10.0)
        assert len(list(container.decode(video=0))) == 40
    with Image.open(wanted["--contact-sheet"]) as sheet:
        assert sheet.width > 1000 and np.asarray(sheet).std() > 20


def test_masks_and_a_folder_of_pictures(capsys, tmp_path, clip, checkpoint, oracle):
    tiny("Sam2").save_pretrained(tmp_path / "sam")
    words = [
        "track",
        clip,
        "--box",
        "3,5,16,12",
        "--model",
        checkpoint,
        "--masks",
        tmp_path / "sam",
        "--device",
        "cpu",
    ]
    out, _ = run(capsys, *words, "--json", tmp_path / "o.json", "--visualize", tmp_path / "pictures")
    assert f"wrote {tmp_path / 'pictures'}" in out
    assert sorted(path.name for path in (tmp_path / "pictures").glob("*.mp4")) == ["tracked.mp4"]
    frames = json.loads((tmp_path / "o.json").read_text())["frames"]
    assert frames[7]["objects"][0]["mask"]["size"] == [48, 64] and frames[3]["objects"][0]["mask"] is None
    assert main([str(word) for word in [*words, "--visualize", tmp_path / "pictures"]]) == 2
    assert "nothing is overwritten" in capsys.readouterr().err


def test_table(capsys, clip, checkpoint, oracle):
    out, _ = run(capsys, "track", clip, "--box", "3,4,16,12", "--label", "my swan", "--model", checkpoint)
    lines = out.splitlines()
    assert lines[0].split() == ["frame", "seconds", "id", "label", "score", "x1", "y1", "x2", "y2"]
    assert lines[1].split() == ["0", "0.00", "0", "my", "swan", "1.00", "3.0", "4.0", "16.0", "12.0"]
    assert "of 40 frames shown" in out and len(lines) < 30


def test_json_to_stdout_is_json_alone(capsys, clip, checkpoint, oracle):
    out, err = run(capsys, "track", clip, "--box", "3,4,16,12", "--json", "-", "--model", checkpoint)
    assert len(json.loads(out)["frames"]) == 40 and err == ""


def test_quiet(capsys, clip, checkpoint, oracle):
    assert run(capsys, "track", clip, "--box", "3,4,16,12", "--quiet", "--model", checkpoint) == ("", "")


def test_several_objects_and_options(capsys, clip, checkpoint, oracle):
    words = ["--box=3,4,16,12", "--box=3,14,16,22", "--start-frame=20", "--direction=both", "--gap-policy=none"]
    out, _ = run(capsys, "track", clip, *words, "--json=-", "--clip-len=4", "--overlap=2", "--model", checkpoint)
    frames = json.loads(out)["frames"]
    assert [frame["frame"] for frame in frames] == list(range(40))
    assert [item["id"] for item in frames[20]["objects"]] == [0, 1] and frames[3]["objects"] == []


@pytest.mark.parametrize("option", ["--prompt=Find {expression} now.", "--rsot-continuation=expression"])
def test_prompt_and_continuation_reach_the_model(capsys, clip, checkpoint, oracle, option):
    run(capsys, "track", clip, "--expression=the swan", option, "--single-pass-up-to=0", "--model", checkpoint)
    first = "Find the swan now." if "prompt" in option else oracle.questions[0]
    assert oracle.questions[0] == first
    assert ("the swan" in oracle.questions[-1]) == ("continuation" in option)


@pytest.mark.parametrize(
    "switches", [[], ["--decoding=plain"], ["--no-constrained"], ["--vision-memory-mb=1"]], ids=str
)
def test_decoding_switches_and_stats(capsys, clip, checkpoint, switches):
    words = ["--box=3,4,16,12", "--clip-len=4", "--single-pass-up-to=0", "--stats", "--json=-", "--start-frame=34"]
    out, err = run(capsys, "track", clip, *words, *switches, "--model", checkpoint)
    document = json.loads(out)
    assert len(document["frames"]) == 6 and document["stats"]["frames"] == 6
    assert re.search(r"^forwards_per_frame +[0-9.]+$", err, flags=re.MULTILINE)
    assert (document["stats"]["drafted"] == 0) == ("--decoding=plain" in switches)


# --------------------------------------------------------------------------------------------------------------
# describe and ask, with the tiny model's nonsense
# --------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("dtype", ["auto", "bfloat16"])
def test_describe(capsys, clip, checkpoint, tmp_path, dtype):
    words = ["--box=3,4,16,12", "--box=3,14,16,22", "--start-frame=30", "--max-new-tokens=3", "--dtype", dtype]
    out, err = run(capsys, "describe", clip, *words, "--json", tmp_path / "d.json", "--model", checkpoint)
    assert err == "" and out.startswith("0:")
    objects = json.loads((tmp_path / "d.json").read_text())["objects"]
    assert [(item["id"], item["frame"]) for item in objects] == [(0, 30), (1, 30)]
    assert objects[0]["box"] == {"xmin": 3, "ymin": 4, "xmax": 16, "ymax": 12}


def test_ask(capsys, clip, checkpoint, oracle):
    out, err = run(capsys, "ask", clip, "What is it?", "--num-frames=5", "--model", checkpoint)
    assert len(oracle.calls[0][0].frames) == 5 and err == "" and out.endswith("\n")
    assert oracle.questions == ["What is it?"]


# --------------------------------------------------------------------------------------------------------------
# help, model folder
# --------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("command", ["track", "describe", "ask"])
def test_help_teaches(capsys, command):
    assert main([command, "--help"]) == 0
    out, _ = capsys.readouterr()
    examples = re.findall(rf"^  (elysium {command} .*)$", out, flags=re.MULTILINE)
    assert len(examples) >= 2
    parser = make_parser()
    for example in examples:  # every example parses
        words = [word.strip('"') for word in re.findall(r'"[^"]*"|\S+', example)[1:]]
        assert parser.parse_args(words).command == command


def test_every_option_is_documented():
    (commands,) = (action for action in make_parser()._actions if action.dest == "command")
    for name, parser in commands.choices.items():
        for action in parser._actions:
            assert action.help, f"elysium {name}: {action.dest} has no help"


def test_model_folder(tmp_path, monkeypatch):
    clone = Path(cli.__file__).resolve().parents[2] / "elysium"
    for folder in ("own", "empty", "clone", "clone/elysium", "elsewhere/elysium"):
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
    for folder in ("own", "clone/elysium", "elsewhere/elysium"):
        (tmp_path / folder / "config.json").write_text("{}")
    monkeypatch.setenv("HOME", str(tmp_path))
    for where, typed, found in (
        (".", "own", "own"),
        (".", "~/own", tmp_path / "own"),
        (".", "acme/elysium-7b", "acme/elysium-7b"),
        (".", None, clone),
        ("elsewhere", None, clone),  # a folder of this name that lies about is not the default
        ("elsewhere", "elysium", "elysium"),
    ):
        monkeypatch.chdir(tmp_path / where)
        assert resolve_model(typed) == str(found), typed
    monkeypatch.chdir(tmp_path)
    (tmp_path / "clone").rename(tmp_path / "elysium")  # above a clone that bears the checkpoint's name
    assert resolve_model("elysium") == resolve_model(None) == str(clone)
    for typed, words in (
        ("./missing", "neither a folder nor a Hub id"),
        (str(tmp_path / "elysium"), "without config.json; did you mean .*elysium/elysium"),
        ("empty", "without config.json; pass a checkpoint"),
    ):
        with pytest.raises(ValueError, match=words):
            resolve_model(typed)


@pytest.mark.slow
def test_as_a_program(clip, checkpoint):
    words = [sys.executable, "-m", "tracking_elysium.cli", "track", clip, "--model", checkpoint, "--quiet"]
    done = subprocess.run([*words, "--box=90,90,95,95"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "") and done.stderr.count("\n") == 1
    done = subprocess.run([*words, "--box=3,4,16,12", "--json=-"], capture_output=True, text=True)
    assert done.returncode == 0 and len(json.loads(done.stdout)["frames"]) == 40
