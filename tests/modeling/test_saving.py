import json
import os
import subprocess
import sys
import textwrap

import pytest
import torch
from safetensors import safe_open
from transformers import AutoModel, AutoModelForImageTextToText, AutoModelForMultimodalLM

from modeling_elysium import ElysiumForConditionalGeneration, ElysiumModel
from tests.modeling.tiny_models import tiny_frames, tiny_model, tiny_prompt

CODE_FILES = {
    "configuration_elysium.py",
    "modeling_elysium.py",
    "position_ids.py",
    "token_compression.py",
    "vision_tower.py",
}


def modes(folder, pattern="*"):
    return {path.name: oct(path.stat().st_mode & 0o777) for path in folder.glob(pattern) if path.is_file()}


@pytest.mark.parametrize("mask", [0o022, 0o077])
def test_others_may_read_what_they_may_read_of_any_new_file(tmp_path, mask):
    before = os.umask(mask)
    try:
        tiny_model().save_pretrained(tmp_path, max_shard_size="20KB")
    finally:
        os.umask(before)
    assert len(modes(tmp_path, "*.safetensors")) > 1
    assert set(modes(tmp_path).values()) == {oct(0o666 & ~mask)}


def example() -> dict[str, torch.Tensor]:
    return {"input_ids": torch.tensor([tiny_prompt(5, 0, 7, 0, 9)]), "pixel_values": tiny_frames(2)}


@pytest.mark.parametrize(
    "fields",
    [
        {"selector_scorer": "positional", "position_ids_mode": "original"},
        {"selector_scorer": "mlp", "text_config": {"tie_word_embeddings": True}},
        {"compressor_type": "concat", "num_image_tokens": 4},
        {"compressor_type": "cross_attention", "vision": "dinov2_registers"},
        {"vision": "siglip", "text": "gpt_neox", "text_config": {"tie_word_embeddings": True}},
    ],
)
def test_save_and_load_give_the_same_model(tmp_path, fields):
    model = tiny_model(**fields)
    model.save_pretrained(tmp_path)
    for auto_class in (AutoModelForImageTextToText, AutoModelForMultimodalLM):
        loaded, info = auto_class.from_pretrained(tmp_path, output_loading_info=True)
        assert type(loaded) is ElysiumForConditionalGeneration
        assert not info["missing_keys"] and not info["unexpected_keys"] and not info["mismatched_keys"]
        for (name, saved), (other, read) in zip(model.named_parameters(), loaded.named_parameters(), strict=True):
            assert name == other and torch.equal(saved, read), name
    assert loaded.generation_config.suppress_tokens == [model.config.image_token_id]
    assert json.loads((tmp_path / "config.json").read_text())["vision_config"]["num_hidden_layers"] == 3


def test_base_model_loads_from_the_same_folder(tmp_path):
    model, inputs = tiny_model(), example()
    inputs["input_ids"] = torch.tensor([tiny_prompt(5, 0, 7, 0, 9)])
    model.save_pretrained(tmp_path)
    base, info = AutoModel.from_pretrained(tmp_path, output_loading_info=True)
    assert type(base) is ElysiumModel
    assert not info["missing_keys"] and not info["unexpected_keys"]
    assert torch.equal(base(**inputs).last_hidden_state, model.model(**inputs).last_hidden_state)
    # And the other way round: a head is all that is missing.
    base.save_pretrained(tmp_path / "base")
    whole, info = ElysiumForConditionalGeneration.from_pretrained(tmp_path / "base", output_loading_info=True)
    assert set(info["missing_keys"]) == {"lm_head.weight"}
    assert torch.equal(whole.model(**inputs).last_hidden_state, model.model(**inputs).last_hidden_state)


def test_parameter_names_are_stable(tmp_path):
    """Checkpoints in the world depend on these names; the positional scorer's are the authors'."""
    tiny_model().save_pretrained(tmp_path)
    with safe_open(tmp_path / "model.safetensors", framework="pt") as tensors:
        names = set(tensors.keys())
    assert {
        "model.selector.pre_proj.weight",
        "model.selector.pre_proj.bias",
        "model.selector.trans_weight",
        "model.selector.trans_bias",
        "model.multi_modal_projector.linear_1.weight",
        "model.multi_modal_projector.linear_2.bias",
        "model.vision_tower.embeddings.patch_embedding.weight",
        "model.vision_tower.encoder.layers.1.mlp.fc1.weight",
        "model.language_model.embed_tokens.weight",
        "model.language_model.layers.1.self_attn.q_proj.weight",
        "lm_head.weight",
    } <= names


def test_a_whole_tower_loads_into_the_cut_one(tmp_path):
    """A checkpoint that holds the layers we do not build, such as LLaVA's, loads without harm."""
    full = tiny_model(vision_feature_layer=-1)
    full.save_pretrained(tmp_path)
    cut, info = ElysiumForConditionalGeneration.from_pretrained(
        tmp_path, vision_feature_layer=-2, output_loading_info=True
    )
    assert not info["missing_keys"] and not info["unexpected_keys"]
    assert len(cut.model.vision_tower.encoder.layers) == 2
    features = full.model.vision_tower.encoder.layers[1].mlp.fc1.weight
    assert torch.equal(cut.model.vision_tower.encoder.layers[1].mlp.fc1.weight, features)


def test_dtype_is_the_callers(tmp_path):
    tiny_model().save_pretrained(tmp_path)
    model = AutoModelForImageTextToText.from_pretrained(tmp_path, dtype=torch.bfloat16)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}


REMOTE = """
    import sys

    class Hidden:
        # Makes our packages unimportable, installed or not.
        def find_spec(self, name, path=None, target=None):
            if name.split(".")[0] in ("modeling_elysium", "processing_elysium", "tracking_elysium"):
                raise ModuleNotFoundError(name)

    sys.meta_path.insert(0, Hidden())
    import torch
    from transformers import AutoConfig, AutoModel, AutoModelForImageTextToText, AutoModelForMultimodalLM

    folder, again = sys.argv[1:3]
    case = torch.load(folder + "/case.pt")
    inputs = {key: case[key] for key in ("input_ids", "pixel_values")}
    assert AutoConfig.from_pretrained(folder, trust_remote_code=True).num_patches == 16
    base = AutoModel.from_pretrained(folder, trust_remote_code=True)
    assert type(base).__name__ == "ElysiumModel"
    multimodal = AutoModelForMultimodalLM.from_pretrained(folder, trust_remote_code=True)
    assert type(multimodal).__name__ == "ElysiumForConditionalGeneration"
    model = AutoModelForImageTextToText.from_pretrained(folder, trust_remote_code=True)
    model.save_pretrained(again)
    for model in (model, AutoModelForImageTextToText.from_pretrained(again, trust_remote_code=True)):
        assert type(model).__module__.startswith("transformers_modules.")
        assert torch.equal(model.generate(**inputs, max_new_tokens=6, do_sample=False), case["generated"])
    print("same answers")
"""


def test_folder_carries_its_code(tmp_path):
    """In a process where the package cannot be imported: load, generate, save again, load that."""
    model, inputs = tiny_model(position_ids_mode="original"), example()
    folder, again = tmp_path / "folder", tmp_path / "again"
    model.save_pretrained(folder)
    assert {path.name for path in folder.iterdir()} >= CODE_FILES
    generated = model.generate(**inputs, max_new_tokens=6, do_sample=False)
    torch.save({**inputs, "generated": generated}, folder / "case.pt")
    environment = {
        **os.environ,
        "HF_HUB_OFFLINE": "1",
        "HF_MODULES_CACHE": str(tmp_path / "modules"),
        "PYTHONPATH": "",
    }
    result = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(REMOTE), str(folder), str(again)],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    assert "same answers" in result.stdout
    assert {path.name for path in again.iterdir()} >= CODE_FILES
