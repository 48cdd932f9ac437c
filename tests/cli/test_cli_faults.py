"""What may go wrong around the command: one line, exit code 2, nothing lost, and no model loaded for nothing."""

import json
import os
import re
import shutil
import subprocess
import sys
import time

import pytest
import torch
from safetensors.torch import load_file, save_file

import tracking_elysium.cli.commands as commands
from tests.tracking.media import write_mp4
from tests.tracking.oracle import PROCESSOR, fitting_model
from tracking_elysium.cli import main

BOX = "--box=10,10,30,30"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkpoint")
    fitting_model().save_pretrained(folder)
    PROCESSOR.save_pretrained(folder)
    return folder


@pytest.fixture
def clip(tmp_path):
    return write_mp4(tmp_path / "clip.mp4", 5)


@pytest.fixture
def no_model(monkeypatch):
    def load(*_):
        raise AssertionError("a model was loaded before the input was checked")

    monkeypatch.setattr(commands, "load_pipeline", load)


def fails(capsys, words, *expected):
    """Run a command that must say one line; what stands in its folder stays as it is."""
    code = main([str(word) for word in words])
    out, err = capsys.readouterr()
    assert (code, out) == (2, "") and err.count("\n") == 1 and "Traceback" not in err, err
    for word in expected:
        assert word in err, err


# --------------------------------------------------------------------------------------------------------------
# before a model is loaded
# --------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["track", "CLIP", BOX, "--output", "CLIP"], "--output .*would overwrite the video"),
        (["track", "CLIP", BOX, "--json", "LINK"], "--json .*would overwrite the video"),
        (["track", "LINK", BOX, "--csv", "CLIP"], "--csv .*would overwrite the video"),
        (["track", "CLIP", BOX, "--output", "new/a.mp4", "--json", "new/../new/a.mp4"], "are one file"),
        (["track", "CLIP", BOX, "--json", "MODEL/config.json"], "--json .*would overwrite the model"),
        (["describe", "CLIP", BOX, "--json", "LINK"], "--json .*would overwrite the video"),
        (["track", "CLIP", "--box=1,2", "--json", "new/a.json"], "four numbers"),
        (["track", "CLIP", BOX, "--json", "new/a.json", "--clip-len", "0"], "`clip_len`=0"),
        (["track", "CLIP", BOX, "--json", "new/a.json", "--overlap", "8"], "`overlap`=8"),
        (["track", "CLIP", BOX, "--json", "new/a.json", "--stall-timeout", "inf"], "`stall_timeout`=inf"),
        (["track", "CLIP", BOX, "--json", "new/a.json", "--batch-size", "-2"], "`batch_size`=-2"),
        (["track", "CLIP", BOX, "--json", "new/a.json", "--gap-policy", "guess"], "`gap_policy`='guess'"),
        (["track", "CLIP", BOX, "--json", "new/a.json", "--dtype", "int3"], "--dtype 'int3'"),
        (["describe", "CLIP", BOX, "--max-new-tokens", "0"], "`max_new_tokens`=0"),
        (["describe", "CLIP", BOX, "--frame-interval", "0"], "`frame_interval`=0"),
        (["ask", "CLIP", "What?", "--max-new-tokens", "-1"], "`max_new_tokens`=-1"),
        (["ask", "CLIP", "What?", "--num-frames", "0"], "`num_frames`=0"),
        (["track", "CLIP", "--expression", "a \udcff swan"], "expression .*no UTF-8"),
        (["track", "CLIP", BOX, "--label", "\udcff"], "label .*no UTF-8"),
        (["ask", "CLIP", "\udce9?"], "question .*no UTF-8"),
        (["track", "CLIP\udcff", BOX], "does not exist"),
    ],
    ids=lambda value: " ".join(value[2:])[:50].encode("ascii", "replace").decode() if isinstance(value, list) else "",
)
def test_nothing_is_made_or_lost(capsys, tmp_path, clip, checkpoint, no_model, monkeypatch, words, expected):
    monkeypatch.chdir(tmp_path)
    link = tmp_path / "link.mp4"
    link.symlink_to(clip)
    names = {"CLIP": str(clip), "LINK": str(link), "MODEL": str(checkpoint)}
    for name, value in names.items():
        words = [word.replace(name, value) for word in words]
    before, config = clip.read_bytes(), (checkpoint / "config.json").read_bytes()
    code = main([*words, "--model", str(checkpoint)])
    out, err = capsys.readouterr()
    assert (code, out) == (2, "") and err.count("\n") == 1, err
    assert re.search(expected, err), err
    assert clip.read_bytes() == before and (checkpoint / "config.json").read_bytes() == config
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clip.mp4", "link.mp4"]


@pytest.mark.parametrize("name", ["toaster", "cuda:99", "mps", "meta", "cuda:-1", "xla"])
def test_a_device_that_is_not_there(capsys, clip, checkpoint, name):
    if name == "mps" and torch.backends.mps.is_available():
        pytest.skip("this machine has one")
    fails(capsys, ["track", clip, BOX, "--model", checkpoint, "--device", name], f"--device {name!r}")


# --------------------------------------------------------------------------------------------------------------
# damaged checkpoints
# --------------------------------------------------------------------------------------------------------------
def cut_weights(folder):
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[: weights.stat().st_size // 2])


def no_weights(folder):
    (folder / "model.safetensors").unlink()


def empty_weights(folder):
    (folder / "model.safetensors").write_bytes(b"")


def wrong_shape(folder):
    weights = load_file(folder / "model.safetensors")
    weights["lm_head.weight"] = weights["lm_head.weight"][:-1].clone()
    save_file(weights, folder / "model.safetensors", {"format": "pt"})


def nan_weights(folder):
    weights = load_file(folder / "model.safetensors")
    weights["lm_head.weight"][:] = float("nan")
    save_file(weights, folder / "model.safetensors", {"format": "pt"})


def edited(name, **values):
    def edit(folder):
        content = json.loads((folder / name).read_text())
        (folder / name).write_text(json.dumps({**content, **values}))

    return edit


def no_json(name, text="{"):
    return lambda folder: (folder / name).write_text(text)


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(cut_weights, id="weights cut off"),
        pytest.param(no_weights, id="no weights"),
        pytest.param(empty_weights, id="empty weights"),
        pytest.param(wrong_shape, id="another shape"),
        pytest.param(nan_weights, id="NaN"),
        pytest.param(edited("config.json", num_image_tokens="many"), id="a text for a number"),
        pytest.param(edited("config.json", vision_config=[1]), id="a list for a mapping"),
        pytest.param(edited("config.json", model_type="llama"), id="another model"),
        pytest.param(edited("config.json", num_image_tokens=2), id="another number of tokens"),
        pytest.param(edited("processor_config.json", num_image_tokens=0), id="no tokens"),
        pytest.param(edited("processor_config.json", tracking_defaults={"clip_len": 0}), id="no frames"),
        pytest.param(edited("processor_config.json", tracking_defaults=[8]), id="a list of defaults"),
        pytest.param(edited("processor_config.json", trained_on={"tasks": ["dance"]}), id="an unknown task"),
        pytest.param(no_json("config.json"), id="half a config"),
        pytest.param(no_json("config.json", "[]"), id="a list for the config"),
        pytest.param(no_json("processor_config.json"), id="half a processor"),
        pytest.param(no_json("tokenizer.json"), id="half a tokenizer"),
        pytest.param(no_json("tokenizer.json", "{}"), id="an empty tokenizer"),
    ],
)
def test_a_damaged_checkpoint(capsys, tmp_path, clip, checkpoint, damage):
    folder = tmp_path / "damaged"
    shutil.copytree(checkpoint, folder)
    damage(folder)
    fails(capsys, ["track", clip, BOX, "--model", folder, "--json", tmp_path / "new" / "a.json"])
    assert not (tmp_path / "new").exists()


def test_nan_is_told_for_words_too(capsys, tmp_path, clip, checkpoint):
    folder = tmp_path / "damaged"
    shutil.copytree(checkpoint, folder)
    nan_weights(folder)
    for words in (["describe", clip, BOX], ["ask", clip, "What?"], ["track", clip, BOX, "--decoding=plain"]):
        fails(capsys, [*words, "--model", folder], "NaN")


# --------------------------------------------------------------------------------------------------------------
# the process
# --------------------------------------------------------------------------------------------------------------
def test_version(capsys):
    assert main(["--version"]) == 0
    out, err = capsys.readouterr()
    assert out.startswith("elysium ") and f"torch {torch.__version__.split('+')[0]}" in out and err == ""


def test_help_shows_every_command_with_an_example(capsys):
    assert main(["--help"]) == 0
    out, _ = capsys.readouterr()
    for command in ("track", "describe", "ask", "convert"):
        assert f"\n  elysium {command} " in out


def test_an_error_nobody_thought_of_is_one_line(capsys, clip, checkpoint, monkeypatch):
    for error in (RuntimeError("CUDA out of memory.\nTried to allocate"), MemoryError()):

        def load(*_, error=error):
            raise error

        monkeypatch.setattr(commands, "load_pipeline", load)
        fails(capsys, ["track", clip, BOX, "--model", checkpoint], str(error).split("\n")[0] or "MemoryError")
        with pytest.raises(type(error)):
            main(["track", str(clip), BOX, "--model", str(checkpoint), "--debug"])


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="no SIGTERM there")
def test_a_run_that_is_ended_leaves_the_old_file(tmp_path, checkpoint):
    long = write_mp4(tmp_path / "long.mp4", 400, width=640, height=480)
    (tmp_path / "out.mp4").write_text("old")
    words = [sys.executable, "-m", "tracking_elysium.cli", "track", long, BOX, "--model", checkpoint, "--quiet"]
    run = subprocess.Popen([*words, "--clip-len=2", "--output", tmp_path / "out.mp4"], stderr=subprocess.PIPE)
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob(".elysium-*")) and run.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    run.terminate()
    assert run.wait(60) == 143 and run.stderr.read() == b"elysium track: ended\n"
    assert (tmp_path / "out.mp4").read_text() == "old"
    assert sorted(os.listdir(tmp_path)) == ["long.mp4", "out.mp4"]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="pipes end otherwise there")
def test_output_that_nobody_reads(tmp_path, clip, checkpoint):
    words = [sys.executable, "-m", "tracking_elysium.cli", "track", clip, BOX, "--json=-", "--model", checkpoint]
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(words, stdout=writer, stderr=subprocess.PIPE, text=True)
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, "")
    with open("/dev/full", "w") as full:
        done = subprocess.run(words, stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 2 and done.stderr.count("\n") == 1
