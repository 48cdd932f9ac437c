"""Conversion of checkpoints: names, values, the way back, and every kind of broken input."""

import json
import os
import pickle
import shutil

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from transformers import AutoModelForImageTextToText, AutoProcessor

from modeling_elysium import ElysiumConfig, ElysiumForConditionalGeneration
from modeling_elysium.conversion.files import CheckpointReader
from modeling_elysium.conversion.layouts import LLAVA, LLAVA_HF, LLAVA_HF_5, RELEASED, detect_layout
from modeling_elysium.convert_elysium_weights_to_hf import convert, convert_to_original
from tests.modeling.released_checkpoints import KEPT, released_tensors, write_llava, write_released, write_shards
from tracking_elysium.cli import main as elysium

DEAD = {"adapter.score_proj.weight", "adapter.score_proj.bias"}


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return write_released(tmp_path_factory.mktemp("released") / "source")


@pytest.fixture(scope="module")
def converted(source):
    out = source.parent / "converted"
    return out, convert(str(source), out)


def read_all(folder):
    return dict(CheckpointReader(folder).tensors())


def test_values_and_report(source, converted):
    out, result = converted
    model = AutoModelForImageTextToText.from_pretrained(out)
    theirs = released_tensors()
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, theirs[RELEASED.to_theirs(name)]), name
    past = {key for key in theirs if "layers.2." in key and "vision" in key or "post_layernorm" in key}
    assert set(result.dropped) == DEAD | past and result.difference == 0
    config = model.config
    assert (config.num_image_tokens, config.image_token_id, config.text_config.vocab_size) == (KEPT, 99, 99)
    assert model.generation_config.pad_token_id == 0 and model.generation_config.suppress_tokens == [99]
    assert (out / "README.md").is_file() and (out / "modeling_elysium.py").is_file()
    assert not (out / "convert_plan.py").exists()
    assert len({path.stat().st_mode & 0o777 for path in out.iterdir() if path.is_file()}) == 1


def test_processor_has_the_released_conventions(converted):
    processor = AutoProcessor.from_pretrained(converted[0])
    assert (processor.compat, processor.box_rounding, processor.num_image_tokens) == ("released", "round", KEPT)
    assert processor.tokenizer.pad_token_id == 0 and processor.tokenizer.padding_side == "left"
    assert processor.tracking_defaults["rsot_continuation"] == "expression"


def test_generates(converted):
    model = AutoModelForImageTextToText.from_pretrained(converted[0])
    processor = AutoProcessor.from_pretrained(converted[0])
    frames = torch.randint(0, 255, (2, 3, 40, 30), dtype=torch.uint8)
    inputs = processor.encode_tracking("rsot", list(frames), expression="the swan")
    ids = model.generate(**inputs, max_new_tokens=3, do_sample=False)
    assert ids.shape[1] <= inputs["input_ids"].shape[1] + 3 and (ids[:, -3:] < 99).all()


def test_embeddings_alone_cannot_say_where_frames_stand(converted):
    model = AutoModelForImageTextToText.from_pretrained(converted[0])
    with pytest.raises(ValueError, match="image_token_id is 99, past the 99 rows .* pass input_ids"):
        model(inputs_embeds=torch.zeros(1, 9, 48), pixel_values=torch.zeros(1, 3, 28, 28))


@pytest.mark.parametrize("tower", ["released", "clip"])
def test_there_and_back(source, converted, tmp_path, tower):
    theirs, vision = released_tensors(), str(source)
    if tower == "clip":
        vision = str(tmp_path / "clip")
        os.mkdir(vision)
        prefix = "visual_encoder."
        part = {key.removeprefix(prefix): value for key, value in theirs.items() if key.startswith(prefix)}
        save_file(part, f"{vision}/model.safetensors")
    result = convert_to_original(str(converted[0]), tmp_path / "back", vision)
    back = read_all(tmp_path / "back")
    assert set(theirs) - set(back) == DEAD == set(result.absent)
    assert all(torch.equal(back[key], theirs[key]) for key in back)
    convert(str(tmp_path / "back"), tmp_path / "again", verify=False)
    first, second = read_all(converted[0]), read_all(tmp_path / "again")
    assert first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)
    tokens = [AutoProcessor.from_pretrained(f).tokenizer for f in (converted[0], tmp_path / "again")]
    assert tokens[0].get_vocab() == tokens[1].get_vocab()


def test_the_way_back_without_a_tower_says_what_is_absent(converted, tmp_path):
    result = convert_to_original(str(converted[0]), tmp_path / "back")
    assert set(released_tensors()) - set(read_all(tmp_path / "back")) == set(result.absent)


def test_shards_in_and_out(source, converted, tmp_path):
    sharded = write_released(tmp_path / "sharded")
    write_shards(sharded, released_tensors())
    convert(str(sharded), tmp_path / "out", max_shard_bytes=60_000)
    assert len(list((tmp_path / "out").glob("model-*-of-*.safetensors"))) > 2
    one, many = read_all(converted[0]), read_all(tmp_path / "out")
    assert one.keys() == many.keys() and all(torch.equal(one[key], many[key]) for key in one)


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "before torch 1.6"])
def test_torch_file_and_base_weights_kept_apart(source, converted, tmp_path, zipped):
    theirs = released_tensors()
    apart = write_released(tmp_path / "apart", {k: v for k, v in theirs.items() if not k.startswith("llm.")})
    own = load_file(apart / "model.safetensors")
    (apart / "model.safetensors").unlink()
    torch.save(own, apart / "pytorch_model.bin", _use_new_zipfile_serialization=zipped)
    with pytest.raises(ValueError, match="lacks .* tensors: llm.lm_head.weight.* --llm"):
        convert(str(apart), tmp_path / "out")
    language = {k.removeprefix("llm."): v for k, v in theirs.items() if k.startswith("llm.")}
    save_file(language, apart / "llm" / "model.safetensors")
    convert(str(apart), tmp_path / "out", verify=False)
    one, other = read_all(converted[0]), read_all(tmp_path / "out")
    assert one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def test_dtype(source, tmp_path):
    convert(str(source), tmp_path / "out", dtype="bf16")
    assert {tensor.dtype for tensor in read_all(tmp_path / "out").values()} == {torch.bfloat16}
    assert AutoModelForImageTextToText.from_pretrained(tmp_path / "out").dtype == torch.bfloat16


def test_from_llava(tmp_path):
    result = convert(str(write_llava(tmp_path / "llava")), tmp_path / "out")
    assert result.difference == 0
    model = AutoModelForImageTextToText.from_pretrained(tmp_path / "out")
    theirs = released_tensors()
    assert torch.equal(model.lm_head.weight[:99], theirs["llm.lm_head.weight"])
    assert torch.equal(model.model.multi_modal_projector.linear_2.bias, theirs["llm_proj.2.bias"])
    selector = model.model.selector
    assert not selector.trans_weight.any() and int((selector.trans_bias > 0).sum()) == selector.num_kept
    assert selector.pre_proj.weight.any() and AutoProcessor.from_pretrained(tmp_path / "out").compat is None


@pytest.mark.parametrize("layout", [RELEASED, LLAVA, LLAVA_HF, LLAVA_HF_5], ids=lambda layout: layout.name)
def test_tables_go_both_ways(layout):
    for name in (RELEASED.to_ours(key) for key in released_tensors() if key not in DEAD):
        if (theirs := layout.to_theirs(name)) is not None:
            assert layout.to_ours(theirs) == name
    assert detect_layout([f"{mark}x" for mark in layout.marks], "here") is layout


def test_full_size_has_the_released_names_and_numbers():
    config = ElysiumConfig()
    config.text_config.vocab_size = 32000
    with torch.device("meta"):
        model = ElysiumForConditionalGeneration(config)
    names = {RELEASED.to_theirs(key) for key in model.state_dict()}
    small = {key for key in released_tensors() if key not in DEAD and "post_layernorm" not in key}
    wanted = set()
    for key in small:
        layers = range(32) if key.startswith("llm.model.layers.0.") else range(23)
        if ".layers.0." in key:
            wanted |= {key.replace(".layers.0.", f".layers.{i}.") for i in layers}
        elif ".layers." not in key:
            wanted.add(key)
    assert names == wanted
    vicuna, tower, projector, selector = 6_738_415_616, 290_909_184, 20_979_712, 576 * 576 + 576 + 1024 + 1
    assert sum(p.numel() for p in model.parameters()) == vicuna + tower + projector + selector


def test_base_models_are_looked_for_beside_the_configuration_first(source, tmp_path, monkeypatch):
    (tmp_path / "llm").mkdir()
    monkeypatch.chdir(tmp_path)
    convert(str(source), "out", verify=False)
    assert (tmp_path / "out" / "config.json").is_file()


# --------------------------------------------------------------------------------------------------------------
# bad input: one clear error each, and no OUT
# --------------------------------------------------------------------------------------------------------------
class Code:
    def __reduce__(self):
        return (os.getcwd, ())


def cut_off(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1000])


def missing_shard(folder):
    write_shards(folder, released_tensors())
    (folder / "model-00002-of-00003.safetensors").unlink()


def missing_shard_without_index(folder):
    missing_shard(folder)
    (folder / "model.safetensors.index.json").unlink()


def pickle_with_code(folder):
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps({"llm.x": Code()}))


def sentencepiece_alone(folder):
    (folder / "llm" / "tokenizer.json").unlink()
    (folder / "llm" / "tokenizer.model").write_bytes(b"?")
    config = {"tokenizer_class": "LlamaTokenizer"}
    (folder / "llm" / "tokenizer_config.json").write_text(json.dumps(config))


def with_tensors(**changes):
    def spoil(folder):
        tensors = released_tensors() | {key.replace("__", "."): value for key, value in changes.items()}
        save_file({key: value for key, value in tensors.items() if value is not None}, folder / "model.safetensors")

    return spoil


def with_fields(**fields):
    def spoil(folder):
        path = folder / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | fields))

    return spoil


def other_layout(folder):
    save_file({"transformer.h.0.weight": torch.zeros(2)}, folder / "model.safetensors")


def other_adapter(folder):
    kept = {key: value for key, value in released_tensors().items() if not key.startswith("adapter.")}
    save_file({**kept, "adapter.queries": torch.zeros(2)}, folder / "model.safetensors")


def with_shards_named(*names):
    def spoil(folder):
        write_shards(folder, released_tensors(), count=1)
        shutil.copy(folder / "model-00001-of-00001.safetensors", folder.parent / "elsewhere.safetensors")
        index = folder / "model.safetensors.index.json"
        index.write_text(json.dumps({"weight_map": dict(zip("ab", names, strict=False))}))

    return spoil


def with_index(content):
    def spoil(folder):
        (folder / "model.safetensors").unlink()
        (folder / "model.safetensors.index.json").write_text(json.dumps(content))

    return spoil


def list_as_tower_config(folder):
    (folder / "clip" / "config.json").write_text("[]")


def numbers_as_names(folder):
    (folder / "model.safetensors").unlink()
    torch.save({0: torch.zeros(2)}, folder / "pytorch_model.bin")


def old_pickle_with_code(folder):
    (folder / "model.safetensors").unlink()
    torch.save({"llm.x": Code()}, folder / "pytorch_model.bin", _use_new_zipfile_serialization=False)


BAD = [
    (with_shards_named("../elsewhere.safetensors"), "names the shard '../elsewhere.safetensors'"),
    (with_shards_named("model-00001-of-00001.safetensors", ".."), r"names the shard '\.\.'"),
    (with_shards_named("/etc/model.safetensors"), "names the shard '/etc/model.safetensors'"),
    (with_shards_named("..\\elsewhere.safetensors"), "expected the name of a file beside it"),
    (with_shards_named(["model-00001-of-00001.safetensors"]), "names the shard \\['model"),
    (with_index([1]), "index.json holds a list; expected a mapping"),
    (with_index({"weight_map": ["model.safetensors"]}), "weight_map is a list; expected a mapping"),
    (lambda folder: (folder / "config.json").write_text("[1]"), "config.json holds a list; expected a mapping"),
    (lambda folder: (folder / "config.json").write_text("null"), "config.json holds null; expected a mapping"),
    (with_fields(llm_config=["llm"]), "llm_config is a list; expected a mapping"),
    (with_fields(visual_config="clip"), "visual_config is a text; expected a mapping"),
    (with_fields(adapter_config=[16, 6]), "adapter_config is a list; expected a mapping"),
    (with_fields(adapter_config={"out_token_num": [6]}), r"out_token_num is \[6\]; expected a whole number"),
    (with_fields(projector_config=["mlp2x_gelu"]), "projector_config is a list; expected a mapping"),
    (with_fields(llm_config={"pretrained_model_name_or_path": ["llm"]}), "does not name a base model for llm"),
    (list_as_tower_config, "config.json holds a list; expected a mapping"),
    (numbers_as_names, "holds more than named tensors"),
    (old_pickle_with_code, "pickle with code"),
    (other_layout, "unknown layout .*transformer.h.0.weight"),
    (missing_shard, "model-00002-of-00003.safetensors"),
    (missing_shard_without_index, "holds 2 of 3 shards"),
    (cut_off, "model.safetensors is cut off or broken"),
    (with_tensors(llm_proj__0__weight=torch.zeros(48, 31)), r"llm_proj.0.weight .*\(48, 31\).*\(48, 32\)"),
    (with_tensors(llm_proj__0__weight=None), "lacks 1 tensors: llm_proj.0.weight"),
    (with_tensors(llm__extra=torch.zeros(2)), "no place in the model: llm.extra"),
    (other_adapter, "unknown compressor: .*adapter.queries"),
    (with_fields(projector_config={"type": "linear"}), "projector_config has type 'linear'"),
    (with_fields(adapter_config={"in_token_num": 576, "out_token_num": 6}), "in_token_num=576.*16 patches"),
    (with_fields(llm_config={"pretrained_model_name_or_path": "nobody/nothing"}), "cannot be had from the Hub"),
    (pickle_with_code, "pickle with code"),
    (lambda folder: (folder / "model.safetensors").unlink(), "holds no weights"),
    (lambda folder: (folder / "config.json").unlink(), "config.json is missing"),
    (lambda folder: (folder / "config.json").write_text("{"), "config.json is not JSON"),
    (lambda folder: (folder / "llm" / "tokenizer.json").write_text("{"), "no tokenizer"),
    (sentencepiece_alone, "no tokenizer"),
]


@pytest.mark.parametrize(("spoil", "message"), BAD, ids=[message[:30] for _, message in BAD])
def test_bad_input(tmp_path, spoil, message):
    folder = write_released(tmp_path / "source")
    spoil(folder)
    with pytest.raises(ValueError, match=message):
        convert(str(folder), tmp_path / "out")
    assert not [path for path in tmp_path.iterdir() if "out" in path.name]


def test_bad_arguments(source, converted, tmp_path):
    for src, message in [("no/such/folder", "neither a folder nor a Hub id"), ("nobody/nothing", "from the Hub")]:
        with pytest.raises(ValueError, match=message):
            convert(src, tmp_path / "out")
    with pytest.raises(ValueError, match="--dtype 'int3' is unknown"):
        convert(str(source), tmp_path / "out", dtype="int3")
    with pytest.raises(ValueError, match="converted already"):
        convert(str(converted[0]), tmp_path / "out")
    with pytest.raises(ValueError, match="there already"):
        convert(str(source), converted[0])
    with pytest.raises(ValueError, match="unknown layout"):
        convert_to_original(str(converted[0]), tmp_path / "out", vision=str(converted[0]))
    assert not list(tmp_path.iterdir())


def test_an_interrupted_conversion_leaves_nothing(source, tmp_path, monkeypatch):
    def stop(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("modeling_elysium.convert_elysium_weights_to_hf._write_rest", stop)
    with pytest.raises(KeyboardInterrupt):
        convert(str(source), tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_command(source, tmp_path, capsys):
    assert elysium(["convert", str(source), str(tmp_path / "out"), "--no-verify"]) == 0
    assert "dropped adapter.score_proj.bias: dead" in capsys.readouterr().out
    with safe_open(tmp_path / "out" / "model.safetensors", framework="pt") as file:
        assert file.metadata() == {"format": "pt"}
    assert elysium(["convert", str(source), str(tmp_path / "out")]) == 2
    assert "there already" in capsys.readouterr().err
