"""The shipped recipes say what the paper says; recipes are chained, changed on the command line and printed."""

import re

import pytest
import yaml
from safetensors.torch import load_file

from train.config import Recipe
from train.parts import PARTS
from train.plain import from_plain, to_plain
from train.sft import main, read_recipes, run_recipe

from .tiny_recipe import recipe, stage

# Paper, section 4.2: stage -> learning rate, steps (None: one pass), global batch, frames, interval.
PUBLISHED = {
    "stage1a": (2e-3, None, 8 * 32, (1, 1), None),
    "stage1b": (5e-5, 30_000, 32 * 16, (1, 1), None),
    "stage2a": (5e-5, 20_000, 32 * 16, (2, 8), 60),
    "stage2b": (5e-5, 2_000, 32 * 1, (32, 32), 60),
}
IMAGES = {
    "llava_558k", "grit_20m", "cogvlm_sft_311k", "coco_vqa", "gqa", "visual7w", "flickr30k_entities", "visual_genome",
    "refcoco", "refcoco_plus", "refcocog",
}  # fmt: skip
VIDEOS = {"videochat", "elysium_track_1m"}
DATA = {
    "stage1a": {"llava_558k"},
    "stage1b": IMAGES,
    "stage2a": VIDEOS | IMAGES - {"grit_20m", "llava_558k"},
    "stage2b": VIDEOS | IMAGES - {"grit_20m", "llava_558k"},
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_published_schedule(name):
    (one,) = read_recipes([name]).stages
    rate, steps, batch, frames, interval = PUBLISHED[name]
    given = one.arguments
    assert (one.name, given["learning_rate"], given.get("max_steps"), one.global_batch_size) == (
        name, rate, steps, batch,
    )  # fmt: skip
    assert steps is not None or given["num_train_epochs"] == 1
    assert given["lr_scheduler_type"] == "cosine" and given["warmup_steps"] == 0.03
    assert one.num_frames == frames
    assert {re.fullmatch(r"data/(\w+)\.jsonl", source.source).group(1) for source in one.sources} == DATA[name]
    intervals = {source.options.get("max_interval") for source in one.sources if source.source[5:-6] in VIDEOS}
    assert intervals == ({interval} if interval else set())


def test_the_published_model_and_chain():
    whole = read_recipes(list(PUBLISHED))
    assert [one.name for one in whole.stages] == list(PUBLISHED)
    assert whole.model is None and whole.assemble.elysium == {"num_image_tokens": 108}
    assert "clip-vit-large-patch14-336" in whole.assemble.vision and "vicuna-7b-v1.5" in whole.assemble.text


def test_one_gpu_trains_adapters():
    (one,) = read_recipes(["lora-7b-1gpu"]).stages
    assert one.lora is not None and one.dtype == "bfloat16" and "vision_tower" not in one.train
    assert one.arguments["activation_checkpointing"]


def written(path, one):
    path.write_text(yaml.safe_dump(to_plain(one)))
    return path


def test_plain_values_are_read_back():
    for one in (recipe(stage(train={"selector": 0.5})), read_recipes(["lora-7b-1gpu"]), read_recipes(["smol"])):
        assert from_plain(Recipe, to_plain(one), "again") == one


def test_chained_recipes_run_in_order_and_resume_at_the_right_stage(tmp_path, capsys):
    first = written(tmp_path / "first.yaml", recipe(stage(name="a", train=["selector"])))
    second = recipe(stage(name="b", train=["language_model"]))
    second.build, second.model = None, "nowhere/at-all"  # in a chain it follows the stage before
    command = [str(first), str(written(tmp_path / "second.yaml", second)), "--output", str(tmp_path / "run"), "--cpu"]
    main(command)
    assert re.findall(r"stage (\w): starts from \S*/(\w+)", capsys.readouterr().out) == [
        ("a", "start"),
        ("b", "final"),
    ]
    a, b = (load_file(tmp_path / "run" / name / "final/model.safetensors") for name in "ab")
    assert {name for name in a if (a[name] != b[name]).any()} <= {n for n in a if "language_model" in n}
    # The second stage had not been finished: only its end is made again.
    for path in (tmp_path / "run/b/final").iterdir():
        path.unlink()
    (tmp_path / "run/b/final").rmdir()
    main(command)
    out = capsys.readouterr().out
    assert "stage a: finished" in out and "stage b: starts from" in out and "b/checkpoint-2" in out
    again = load_file(tmp_path / "run/b/final/model.safetensors")
    assert all((again[name] == b[name]).all() for name in b)


def test_a_single_stage_starts_from_the_one_before_it(tmp_path, capsys):
    both = recipe(stage(name="a"), stage(name="b"))
    run_recipe(both, tmp_path, only=["a"])
    assert not (tmp_path / "b").exists()
    run_recipe(both, tmp_path, only=["b"])
    assert "stage b: starts from " + str(tmp_path / "a/final") in capsys.readouterr().out


def test_the_printed_recipe_is_the_one_that_runs(tmp_path, capsys):
    path = written(tmp_path / "r.yaml", recipe(stage(name="a"), stage(name="b")))
    main([str(path), "--print-config", "--set", "stages.b.num_frames=[1, 2]", "--set", "stages.0.turns=1"])
    printed = from_plain(Recipe, yaml.safe_load(capsys.readouterr().out), "printed")
    assert printed.stages[1].num_frames == (1, 2) and printed.stages[0].turns == 1
    assert list(printed.stages[0].train) == list(PARTS)
    assert list(tmp_path.iterdir()) == [path]  # nothing was trained


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("sed=1", r"unknown key\(s\) \['sed'\].*did you mean 'seed'\?"),
        ("stages.0.trian={selector: 1}", "did you mean 'train'"),
        ("stages.0.train.selectr=1", "train names"),
        ("stages.stage1.turns=2", "no entry is named 'stage1'; did you mean 'stage1a'"),
        ("stages.0.turns=two", "turns: expected int, found 'two'"),
        ("stages.0.global_batch_size=0", "global_batch_size is 0"),
        ("stages.0.dtype=float16", "dtype is 'float16'"),
        ("stages.0.lora.r=0", "give r and alpha from 1"),
        ("stages.0.turns", "no '='"),
    ],
)
def test_changes_that_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        read_recipes(["stage1a"], [change])


def test_wrong_names_are_told_without_a_traceback(tmp_path):
    with pytest.raises(SystemExit, match="stage1.yaml does not exist|stage1 does not exist"):
        main(["stage1", "--print-config"])
    with pytest.raises(SystemExit, match="did you mean 'seed'"):
        main(["stage1a", "--print-config", "--set", "sed=1"])
    with pytest.raises(SystemExit):
        main(["stage1a"])  # no --output
