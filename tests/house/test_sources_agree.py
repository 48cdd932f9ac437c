"""One home per fact: the embedded checkpoint's code, the configuration's keys, the pinned set."""

import ast
import json
import re
from pathlib import Path

import pytest

from train.checkpoint_code import CHECKPOINTS, carried_code, link_code

from .source import ROOT, SHIPPED, carried_files, declared_requirements, parse, python_files

MAX_WEIGHT_BYTES = {"elysium": 60 * 10**6, "drawn_shapes": 25 * 10**6}
# Read by transformers itself, from the configuration's attribute.
READ_BY_LIBRARY = {"tie_word_embeddings", "image_token_id"}


@pytest.mark.parametrize("checkpoint", CHECKPOINTS, ids=lambda path: path.name)
def test_checkpoint_code_is_the_packages_code(checkpoint):
    wanted = {name: path.relative_to(ROOT) for name, path in carried_code().items()}
    assert set(wanted.values()) == set(carried_files())
    here = {path.name for path in checkpoint.glob("*.py")}
    assert here == set(wanted), f"make checkpoint-code: {sorted(here ^ set(wanted))}"
    for name, source in wanted.items():
        # A checkout without symbolic links has files that hold the link's target instead.
        text = (checkpoint / name).read_text(encoding="utf-8")
        linked = (checkpoint / name).resolve() == ROOT / source or text.endswith(f"../{source.as_posix()}")
        assert linked, f"{checkpoint.name}/{name} is no link to {source}: make checkpoint-code"


def test_links_are_renewed(tmp_path):
    (tmp_path / "stale.py").write_text("")
    (tmp_path / "config.json").write_text("{}")
    names = link_code(tmp_path)
    assert names == sorted(carried_code()) == sorted(path.name for path in tmp_path.glob("*.py"))
    assert all((tmp_path / name).resolve() == path for name, path in carried_code().items())


@pytest.mark.parametrize("checkpoint", CHECKPOINTS, ids=lambda path: path.name)
def test_checkpoint_is_there_and_small(checkpoint):
    weights = checkpoint / "model.safetensors"
    assert weights.is_file(), f"{weights} is missing: take it from the repository, or train.small.publish it"
    assert weights.stat().st_size <= MAX_WEIGHT_BYTES[checkpoint.name]


def test_every_config_key_is_read():
    config = Path("modeling_elysium/configuration_elysium.py")
    classes = [n for n in parse(config).body if isinstance(n, ast.ClassDef) and n.name == "ElysiumConfig"]
    keys = {n.target.id for n in classes[0].body if isinstance(n, ast.AnnAssign)}
    readers = [p for p in python_files(*SHIPPED) if p != config]
    read = {n.attr for p in readers for n in ast.walk(parse(p)) if isinstance(n, ast.Attribute)}
    # A property of the configuration reads keys on behalf of the files that use it.
    properties = [n for n in classes[0].body if isinstance(n, ast.FunctionDef) and n.decorator_list]
    read |= {n.attr for p in properties for n in ast.walk(p) if isinstance(n, ast.Attribute)}
    assert keys, "ElysiumConfig declares its keys as annotated fields"
    assert keys - READ_BY_LIBRARY <= read, f"never read: {sorted(keys - READ_BY_LIBRARY - read)}"


def test_constraints_pin_what_setup_names():
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = {line.split("==")[0].lower().replace("_", "-") for line in lines if line and not line.startswith("#")}
    unpinned = {
        "gradio",
        "gradio-image-annotation",
        "gradio-client",
        "playwright",
    }  # of the demo
    assert declared_requirements() - unpinned <= pins


def test_make_track_asks_for_objects_of_the_sample():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    (asked,) = re.findall(r"^SAMPLE_BOX := (.*)$", makefile, re.MULTILINE)
    sample = json.loads((ROOT / "examples" / "sample.json").read_text(encoding="utf-8"))
    objects, size = sample["objects"], sample["frame_size"]
    box = [float(number) for number in asked.split(",")]
    starts = [[value * side for value, side in zip(item["box"][0], size * 2, strict=True)] for item in objects]
    assert min(max(abs(a - b) for a, b in zip(box, start, strict=True)) for start in starts) <= 1
