import json

import pytest
import torch
from huggingface_hub.errors import StrictDataclassError
from transformers import AutoConfig, AutoModelForImageTextToText

from modeling_elysium import ElysiumConfig, ElysiumForConditionalGeneration
from modeling_elysium.configuration_elysium import concat_windows
from tests.modeling.tiny_models import tiny_config


def test_default_is_the_papers_model():
    config = ElysiumConfig()
    assert (config.num_patches, config.num_image_tokens, config.num_vision_layers) == (576, 108, 23)
    assert (config.compressor_type, config.selector_scorer) == ("t_selector", "positional")
    assert (config.vision_config.model_type, config.vision_config.hidden_size) == ("clip_vision_model", 1024)
    assert (config.text_config.model_type, config.text_config.hidden_size) == ("llama", 4096)
    assert config.image_token_id < config.text_config.vocab_size


def test_default_model_has_the_released_shapes():
    with torch.device("meta"):
        model = ElysiumForConditionalGeneration(ElysiumConfig())
    shapes = {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}
    assert shapes["model.selector.trans_weight"] == (576, 576)
    assert shapes["model.selector.trans_bias"] == (576,)
    assert shapes["model.selector.pre_proj.weight"] == (1, 1024)
    assert shapes["model.multi_modal_projector.linear_1.weight"] == (4096, 1024)
    assert shapes["lm_head.weight"] == (32064, 4096)
    assert not any("post_layernorm" in name or "layers.23" in name for name in shapes if "vision_tower" in name)
    # 6.739 G of Vicuna with 64 more rows in embedding and head, 0.291 G of tower, 21 M of projector, 0.3 M of selector
    assert sum(parameter.numel() for parameter in model.parameters()) == pytest.approx(7.051e9, rel=1e-3)


def test_round_trip_through_json(tmp_path):
    config = tiny_config(selector_scorer="mlp", position_ids_mode="original", num_image_tokens=5)
    config.save_pretrained(tmp_path)
    written = json.loads((tmp_path / "config.json").read_text())
    assert written["auto_map"]["AutoModel"] == "modeling_elysium.ElysiumModel"
    assert "custom_pipelines" not in written  # the folder of a model alone has no pipeline; the pipeline writes it
    assert not hasattr(config, "custom_pipelines")
    loaded = AutoConfig.from_pretrained(tmp_path)
    assert type(loaded) is ElysiumConfig
    # The registered pipeline is to be used where the package is installed, not the folder's copy.
    assert not hasattr(loaded, "custom_pipelines")
    for field in ("selector_scorer", "position_ids_mode", "num_image_tokens", "image_token_id", "tie_word_embeddings"):
        assert getattr(loaded, field) == getattr(config, field)
    assert loaded.vision_config.to_dict() == config.vision_config.to_dict()


BAD_CONFIGS = [
    ({"num_image_tokens": 0}, "from 1 to 16"),  # nothing kept
    ({"num_image_tokens": 17}, "from 1 to 16"),  # more than there are
    ({"compressor_type": "concat"}, r"one of \[1, 2, 4, 8, 16\]"),  # 6 does not tile 4 x 4
    ({"compressor_type": "mlp"}, "allows 16"),  # nothing is compressed
    ({"compressor_type": "cross_attention", "num_image_tokens": 20}, "from 1 to 16"),  # an expansion
    ({"compressor_type": "cross_attention", "position_ids_mode": "original"}, "use 'packed'"),  # no raster position
    ({"vision_feature_layer": 0}, "from 1 to 3"),  # the embedding alone
    ({"vision_feature_layer": -4}, "from -3 to -1"),  # before the first layer
    ({"vision_feature_layer": 4}, "from 1 to 3"),  # past the last layer
    ({"vision_config": {"model_type": "vit"}}, "clip_vision_model"),  # unsupported tower
    ({"text_config": {"model_type": "t5"}}, "decoder-only"),  # encoder-decoder
    ({"num_image_token": 4}, "did you mean 'num_image_tokens'"),  # typo
    ({"position_ids": "original"}, "did you mean 'position_ids_mode'"),  # almost the name
]


@pytest.mark.parametrize(("fields", "message"), BAD_CONFIGS)
def test_impossible_values_name_the_possible_ones(fields, message):
    with pytest.raises(ValueError, match=message):
        tiny_config(**fields)


@pytest.mark.parametrize(
    "fields",
    [
        {"compressor_type": "pool"},
        {"selector_scorer": "linear"},
        {"position_ids_mode": "raster"},
        {"num_image_tokens": "many"},
        {"selector_gradient": "yes"},
    ],
)
def test_wrong_types_are_refused(fields):
    with pytest.raises(StrictDataclassError):
        tiny_config(**fields)


def test_budget_is_checked_when_changed_at_loading(tmp_path):
    ElysiumForConditionalGeneration(tiny_config()).save_pretrained(tmp_path)
    smaller = AutoModelForImageTextToText.from_pretrained(tmp_path, num_image_tokens=3)
    assert smaller.model.selector.num_kept == 3
    with pytest.raises(ValueError, match="from 1 to 16"):
        AutoModelForImageTextToText.from_pretrained(tmp_path, num_image_tokens=30)


def test_tying_follows_the_text_config_unless_given():
    assert tiny_config(text_config={"tie_word_embeddings": True}).tie_word_embeddings is True
    assert tiny_config().tie_word_embeddings is False
    assert (
        tiny_config(text_config={"tie_word_embeddings": True}, tie_word_embeddings=False).tie_word_embeddings is False
    )


def test_windows_tile_the_grid_and_are_square_where_they_can():
    windows = concat_windows((24, 24))
    assert windows[144] == (2, 2)
    assert windows[64] == (3, 3)
    assert all(24 % h == 0 and 24 % w == 0 and (24 // h) * (24 // w) == kept for kept, (h, w) in windows.items())
    assert 108 not in windows
