"""What vLLM's transformers backend asks of model and processor, asked here in the same way."""

import json

import numpy as np
import pytest
import torch
from transformers import AttentionInterface, AutoConfig, AutoModel, AutoProcessor
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.utils import ModelOutput

from modeling_elysium import ElysiumModel
from tests.modeling.released_checkpoints import llama_like_tokenizer
from tests.modeling.tiny_models import IMAGE_TOKEN_ID, tiny_frames, tiny_model, tiny_prompt
from tests.processing.tiny_processor import tiny_processor

KEPT = 6


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("serving")
    tiny_model().save_pretrained(path)
    tiny_processor(num_image_tokens=KEPT).save_pretrained(path)
    return path


def test_configuration(folder):
    auto_map = json.loads((folder / "config.json").read_text())["auto_map"]
    assert auto_map["AutoModel"] == "modeling_elysium.ElysiumModel"
    config = AutoConfig.from_pretrained(folder)
    text = config.get_text_config()
    assert text is config.text_config and text.base_model_tp_plan and text.base_model_pp_plan
    assert config.image_token_id == IMAGE_TOKEN_ID


def test_model_on_the_meta_device(folder):
    with torch.device("meta"):
        model = AutoModel.from_config(AutoConfig.from_pretrained(folder))
    assert type(model) is ElysiumModel and model._supports_attention_backend
    tower = model.get_encoder(modality="image")
    assert tower is model.vision_tower and type(tower) is not type(model)
    assert model.get_decoder() is model.language_model
    assert any(key.startswith("language_model.layers.*") for key in model.tp_plan)
    for name in ("video", "audio"):  # must not be taken for a second encoder
        assert model.get_encoder(modality=name) in (tower, model)


def test_image_features_have_one_entry_per_image():
    model = tiny_model().model
    features = model.get_image_features(tiny_frames(3))
    assert isinstance(features, ModelOutput)
    assert [tuple(entry.shape) for entry in features.pooler_output] == [(KEPT, 48)] * 3
    one = [model.get_image_features(frame[None]).pooler_output[0] for frame in tiny_frames(3)]
    torch.testing.assert_close(torch.stack(one), torch.stack(features.pooler_output))


def test_forward_of_merged_embeddings_through_a_foreign_attention():
    """The engine merges the features itself, counts positions and passes its own arguments to its own attention."""
    seen = []

    def attention(module, query, key, value, attention_mask, attention_instances=None, **kwargs):
        seen.append((attention_instances, module.layer_idx))
        return sdpa_attention_forward(module, query, key, value, attention_mask, is_causal=True, **kwargs)

    AttentionInterface.register("engine", attention)
    try:
        model, ids = tiny_model().model, torch.tensor([tiny_prompt(5, 0, 7, 0, 9)])
        wanted = model(input_ids=ids, pixel_values=tiny_frames(2)).last_hidden_state
        embeds = model.get_input_embeddings()(ids)
        embeds[ids == IMAGE_TOKEN_ID] = torch.cat(model.get_image_features(tiny_frames(2)).pooler_output)
        model.config.get_text_config()._attn_implementation = "engine"
        positions = torch.arange(ids.shape[1])[None]
        outputs = model(
            input_ids=None,
            inputs_embeds=embeds,
            use_cache=False,
            position_ids=positions,
            attention_instances="instances",
            return_dict=False,
        )
    finally:
        ALL_ATTENTION_FUNCTIONS._global_mapping.pop("engine")
    assert isinstance(outputs, tuple) and seen == [("instances", 0), ("instances", 1)]
    torch.testing.assert_close(outputs[0], wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("compat", [None, "released"])
def test_processor_says_where_the_images_are(folder, compat):
    processor = AutoProcessor.from_pretrained(folder)
    if compat:
        tokenizer = llama_like_tokenizer()
        tokenizer.add_tokens(["<image>"], special_tokens=True)
        processor = type(processor)(processor.image_processor, tokenizer, num_image_tokens=KEPT, compat=compat)
    images = [np.zeros((20, 30, 3), np.uint8), np.zeros((40, 10, 3), np.uint8)]
    assert hasattr(processor, "image_processor")
    assert "pixel_values" in processor.image_processor.model_input_names
    counts = processor._get_num_multimodal_tokens(image_sizes=[image.shape[:2] for image in images])
    assert counts["num_image_tokens"] == [KEPT, KEPT] and counts["num_image_patches"] == [1, 1]
    assert processor._get_num_multimodal_tokens(image_sizes=([10_000, 10_000],))["num_image_tokens"] == [KEPT]
    assert processor._get_num_multimodal_tokens(video_sizes=([1, 9, 9],))["num_video_tokens"] is None  # images only
    inputs = processor(
        text=f"a {processor.image_token}{processor.image_token} b",
        images=images,
        return_tensors="pt",
        return_mm_token_type_ids=True,
        return_text_replacement_offsets=True,
    )
    assert inputs["pixel_values"].shape[0] == sum(counts["num_image_patches"])
    ids = inputs["input_ids"][0]
    assert int((inputs["mm_token_type_ids"][0] == 1).sum()) == sum(counts["num_image_tokens"])
    assert torch.equal(inputs["mm_token_type_ids"][0] == 1, ids == processor.image_token_id)
    entries = inputs["text_replacement_offsets"][0]
    assert [entry["type"] for entry in entries] == ["image", "image"]
    for entry in entries:
        replaced = processor.tokenizer.encode(entry["replacement"], add_special_tokens=False)
        assert entry["text"] == processor.image_token and replaced == [processor.image_token_id] * KEPT
