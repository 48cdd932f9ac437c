import pytest
import torch
from transformers import AutoModel

from modeling_elysium import ElysiumForConditionalGeneration
from modeling_elysium.outputs import CACHE_NAME
from modeling_elysium.position_ids import raster_position_ids
from tests.modeling.tiny_models import (
    IMAGE_TOKEN_ID,
    NUM_KEPT,
    VOCAB_SIZE,
    left_padded,
    tiny_config,
    tiny_frames,
    tiny_model,
    tiny_prompt,
)

BACKBONES = [
    ("clip", "llama"),
    ("siglip", "llama"),
    ("dinov2", "llama"),
    ("dinov2_registers", "llama"),
    ("clip", "qwen2"),
    ("clip", "gemma2"),
    ("clip", "granite"),
    ("clip", "gpt_neox"),
]
COMPRESSORS = [
    {"selector_scorer": "positional"},
    {"selector_scorer": "mlp"},
    {"compressor_type": "concat", "num_image_tokens": 4},
    {"compressor_type": "cross_attention"},
    {"compressor_type": "mlp", "num_image_tokens": 16},
]


def batch(num_kept: int = NUM_KEPT) -> dict[str, torch.Tensor]:
    """Two rows of unequal length, right-padded as in training, three frames, answers labeled."""
    long = tiny_prompt(5, 0, 7, 8, 0, 9, 10, 11, num_kept=num_kept)
    short = tiny_prompt(6, 0, 12, 13, num_kept=num_kept)
    pad = len(long) - len(short)
    input_ids = torch.tensor([long, short + [0] * pad])
    attention_mask = torch.tensor([[1] * len(long), [1] * len(short) + [0] * pad])
    labels = torch.full_like(input_ids, -100)
    labels[0, -3:] = input_ids[0, -3:]
    labels[1, len(short) - 2 : len(short)] = torch.tensor([12, 13])
    return {
        "input_ids": input_ids,
        "attention_mask": attention_mask,
        "pixel_values": tiny_frames(3),
        "labels": labels,
    }


@pytest.mark.parametrize(("vision", "text"), BACKBONES)
def test_any_backbone_runs_and_trains(vision, text):
    model = tiny_model(vision=vision, text=text)
    output = model(**batch())
    assert output.logits.shape == (2, 2 * NUM_KEPT + 7, VOCAB_SIZE)
    output.loss.backward()
    dead = [name for name, parameter in model.named_parameters() if parameter.grad is None or not parameter.grad.any()]
    assert dead == []


@pytest.mark.parametrize("vision", ["clip", "siglip", "dinov2", "dinov2_registers"])
@pytest.mark.parametrize("layer", [-2, -1, 1, 3])
def test_cut_tower_gives_the_hidden_state_of_the_whole_one(vision, layer):
    config = tiny_config(vision=vision, vision_feature_layer=layer)
    whole = AutoModel.from_config(config.vision_config).eval()
    model = ElysiumForConditionalGeneration(config).eval()
    result = model.model.vision_tower.load_state_dict(whole.state_dict(), strict=False)
    assert result.missing_keys == []
    assert len(model.model.vision_tower.state_dict()) < len(whole.state_dict())
    # Hooks rather than `output_hidden_states`, since some towers put their final norm on the last entry of that.
    blocks = whole.encoder.layers if hasattr(whole.encoder, "layers") else whole.encoder.layer
    seen = []
    blocks[config.num_vision_layers - 1].register_forward_hook(lambda module, args, output: seen.append(output))
    frames = tiny_frames(2)
    whole(frames)
    features = model.get_image_features(frames)
    torch.testing.assert_close(features.last_hidden_state, seen[0] if torch.is_tensor(seen[0]) else seen[0][0])
    assert model.config.vision_config.num_hidden_layers == 3  # the configuration keeps the tower's own depth


@pytest.mark.parametrize("fields", COMPRESSORS)
def test_image_features_and_merging(fields):
    model = tiny_model(**fields)
    num_kept = model.config.num_image_tokens
    inputs = batch(num_kept)
    features = model.get_image_features(inputs["pixel_values"])
    assert [tuple(tokens.shape) for tokens in features.pooler_output] == [(num_kept, 48)] * 3
    if model.config.compressor_type == "t_selector":
        assert features.kept_indices.shape == (3, num_kept)
        patches = features.last_hidden_state[:, 1:]  # without CLIP's class token
        rows = patches.gather(1, features.kept_indices.unsqueeze(-1).expand(-1, -1, 32))
        projected = model.model.multi_modal_projector(rows)
        torch.testing.assert_close(torch.stack(features.pooler_output), projected)
    # The slow way: word embeddings with each frame's tokens written into its place.
    embeds = model.get_input_embeddings()(inputs["input_ids"]).detach().clone()
    frame = iter(features.pooler_output)
    for row, ids in enumerate(inputs["input_ids"].tolist()):
        starts = [t for t, token in enumerate(ids) if token == IMAGE_TOKEN_ID and ids[t - 1] != IMAGE_TOKEN_ID]
        for start in starts:
            embeds[row, start : start + num_kept] = next(frame)
    expected = model.model.language_model(inputs_embeds=embeds, attention_mask=inputs["attention_mask"])
    found = model.model(**{key: inputs[key] for key in ("input_ids", "attention_mask", "pixel_values")})
    torch.testing.assert_close(found.last_hidden_state, expected.last_hidden_state)
    cached = {"image": features}
    again = model.model(
        input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"], mm_encoder_outputs=cached
    )
    assert torch.equal(again.last_hidden_state, found.last_hidden_state)
    assert list(cached) == ["image"] and len(features.pooler_output) == 3  # what the caller gave is left alone


@pytest.mark.parametrize("mode", ["packed", "original"])
def test_embeddings_in_place_of_ids(mode):
    model, inputs = tiny_model(position_ids_mode=mode), batch()
    del inputs["labels"]
    expected = model(**inputs).logits
    inputs["inputs_embeds"] = model.get_input_embeddings()(inputs.pop("input_ids"))
    torch.testing.assert_close(model(**inputs).logits, expected)


def test_placeholder_beyond_the_vocabulary():
    model, inputs = tiny_model(image_token_id=5000), batch()
    reference = tiny_model()
    expected = reference(**inputs).logits
    inputs["input_ids"] = inputs["input_ids"].masked_fill(inputs["input_ids"] == IMAGE_TOKEN_ID, 5000)
    torch.testing.assert_close(model(**inputs).logits, expected)


def test_loss_is_the_mean_over_the_answers():
    model, inputs = tiny_model(), batch()
    output = model(**inputs)
    log_probs = output.logits[:, :-1].log_softmax(-1)
    targets = inputs["labels"][:, 1:]
    taken = [log_probs[b, t, targets[b, t]] for b, t in (targets != -100).nonzero().tolist()]
    torch.testing.assert_close(output.loss, -torch.stack(taken).mean())


def test_logits_to_keep_gives_the_last_positions():
    model, inputs = tiny_model(), batch()
    full = model(**inputs).logits
    del inputs["labels"]
    torch.testing.assert_close(model(**inputs, logits_to_keep=2).logits, full[:, -2:])


def test_base_model_takes_what_trainers_pass():
    """TRL's fused head calls `base_model` with the whole batch but the labels, and reads `last_hidden_state`."""
    model, inputs = tiny_model(), batch()
    expected = model.model(**{key: value for key, value in inputs.items() if key != "labels"}).last_hidden_state
    del inputs["labels"]
    extra = {"mm_token_type_ids": torch.zeros_like(inputs["input_ids"]), "use_cache": False}
    assert torch.equal(model.base_model(**inputs, **extra).last_hidden_state, expected)


@pytest.mark.parametrize("mode", ["packed", "original"])
def test_fused_head_of_trl_gives_the_same_gradients(mode):
    """TRL replaces our forward in training; the selector must learn there as well."""
    utils = pytest.importorskip("trl.trainer.utils")
    model, inputs = tiny_model(position_ids_mode=mode).train(), batch()
    plain = model(**inputs).loss
    plain.backward()
    expected = {name: parameter.grad.clone() for name, parameter in model.named_parameters()}
    model.zero_grad()
    utils.add_fused_lm_head(model)
    fused = model(**inputs, fused_lm_head=True).loss
    fused.backward()
    torch.testing.assert_close(fused, plain)
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, expected[name], rtol=1e-3, atol=1e-3, msg=name)


BAD_CALLS = [
    ({"pixel_values": tiny_frames(2)}, "18 image placeholder tokens but 12 image features"),  # a frame too few
    ({"pixel_values": tiny_frames(4)}, "18 image placeholder tokens but 24 image features"),  # a frame too many
    ({"pixel_values": None}, "18 image placeholder tokens but 0 image features"),  # frames forgotten
    ({"pixel_values": tiny_frames(3, size=56)}, r"\(3, 3, 56, 56\).*28, 28"),  # another resolution
    ({"pixel_values": tiny_frames(3).unsqueeze(0)}, "frames of a whole batch on one axis"),  # batch axis
    ({"inputs_embeds": torch.zeros(2, 19, 48)}, "exactly one of input_ids and inputs_embeds"),  # both
    ({"input_ids": None}, "exactly one of input_ids and inputs_embeds"),  # neither
]


@pytest.mark.parametrize(("changes", "message"), BAD_CALLS)
@pytest.mark.parametrize("vision", ["clip", "dinov2"])
def test_bad_calls_say_what_is_wrong(vision, changes, message):
    inputs = {**batch(), **changes}
    del inputs["labels"]
    with pytest.raises(ValueError, match=message):
        tiny_model(vision=vision)(**inputs)


def test_frames_and_features_at_once_are_refused():
    model, inputs = tiny_model(), batch()
    features = model.get_image_features(inputs["pixel_values"])
    with pytest.raises(ValueError, match="not both"):
        model(**inputs, mm_encoder_outputs={"image": features})


@pytest.mark.parametrize("fields", COMPRESSORS)
@pytest.mark.parametrize("mode", ["eval", "activation_checkpointing"])
def test_every_parameter_moves_in_two_steps(fields, mode):
    torch.manual_seed(0)
    model = ElysiumForConditionalGeneration(tiny_config(**fields)).train()  # as built: the selector at its start
    if mode == "activation_checkpointing":
        model.activation_checkpointing_enable()
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.0)
    for _ in range(2):  # the mixing matrix starts at 0, so what lies behind it moves in the second step
        optimizer.zero_grad()
        model(**batch(model.config.num_image_tokens)).loss.backward()
        optimizer.step()
    assert [name for name, parameter in model.named_parameters() if torch.equal(parameter, before[name])] == []


def test_published_no_gradient_keeps_the_selector_still():
    model = tiny_model(selector_gradient=False).train()
    model(**batch()).loss.backward()
    assert [name for name, parameter in model.named_parameters() if parameter.grad is None] == [
        "model.selector.trans_weight",
        "model.selector.trans_bias",
        "model.selector.pre_proj.weight",
        "model.selector.pre_proj.bias",
    ]


def test_activation_checkpointing_changes_no_gradient():
    model = tiny_model().train()
    model(**batch()).loss.backward()
    expected = {name: parameter.grad.clone() for name, parameter in model.named_parameters()}
    model.zero_grad()
    model.activation_checkpointing_enable()
    model(**batch()).loss.backward()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, expected[name], msg=name)


def slow_raster_positions(ids: list[int], kept: list[list[int]], num_patches: int) -> list[int]:
    """Walks a row token by token: words count on, a frame takes a block of N positions."""
    positions, cursor, frames, t = [], 0, iter(kept), 0
    while t < len(ids):
        if ids[t] == IMAGE_TOKEN_ID:
            indices = next(frames)
            positions += [cursor + index for index in indices]
            cursor, t = cursor + num_patches, t + len(indices)
        else:
            positions.append(cursor)
            cursor, t = cursor + 1, t + 1
    return positions


def test_original_positions_follow_the_raster():
    rows = [tiny_prompt(5, 0, 0, 7, 8, 0, 9), tiny_prompt(6, 0, 12)]
    kept = torch.stack([torch.randperm(16)[:NUM_KEPT].sort().values for _ in range(4)])
    padded = left_padded(*rows)
    found = raster_position_ids(padded["input_ids"] == IMAGE_TOKEN_ID, padded["attention_mask"], NUM_KEPT, 16, kept)
    assert found[0].tolist() == slow_raster_positions(rows[0], kept[:3].tolist(), 16)
    assert found[1, -len(rows[1]) :].tolist() == slow_raster_positions(rows[1], kept[3:].tolist(), 16)
    assert found[1, : -len(rows[1])].eq(0).all()


@pytest.mark.parametrize("attn", ["sdpa", "eager"])
def test_original_mode_runs_at_those_positions(attn):
    model = tiny_model(position_ids_mode="original")
    model.set_attn_implementation(attn)
    ids = tiny_prompt(5, 0, 7, 8, 0, 9, 10)
    frames = tiny_frames(2)
    kept = model.get_image_features(frames).kept_indices.tolist()
    positions = torch.tensor([slow_raster_positions(ids, kept, 16)])
    packed = tiny_model()
    packed.set_attn_implementation(attn)
    tensors = {"input_ids": torch.tensor([ids]), "pixel_values": frames}
    # The explicit mask keeps the library from reading the jumps as packed sequences; ours must need none.
    expected = packed(
        **tensors, position_ids=positions, attention_mask=torch.ones(1, len(ids)), use_cache=False
    ).logits
    torch.testing.assert_close(model(**tensors, use_cache=False).logits, expected)
    assert (packed(**tensors).logits - expected).abs().max() > 1e-3  # the mode matters


def test_original_mode_without_compression_is_packed():
    fields = {"compressor_type": "mlp", "num_image_tokens": 16}
    inputs = batch(16)
    expected = tiny_model(**fields)(**inputs).logits
    found = tiny_model(**fields, position_ids_mode="original")(**inputs).logits
    attended = inputs["attention_mask"].bool()
    torch.testing.assert_close(found[attended], expected[attended])


def test_original_mode_needs_positions_after_a_cache():
    model = tiny_model(position_ids_mode="original")
    output = model(input_ids=torch.tensor([tiny_prompt(0, 7)]), pixel_values=tiny_frames(1), use_cache=True)
    with pytest.raises(ValueError, match="pass position_ids"):
        model(input_ids=torch.tensor([[8]]), past_key_values=output[CACHE_NAME])


@pytest.mark.parametrize("mode", ["packed", "original"])
@pytest.mark.parametrize("scorer", ["positional", "mlp"])
def test_compiles_without_graph_breaks(mode, scorer):
    model, inputs = tiny_model(position_ids_mode=mode, selector_scorer=scorer), batch()
    del inputs["labels"]
    expected = model(**inputs).logits
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(**inputs).logits, expected)


def test_half_precision_stays_half():
    model, inputs = tiny_model().to(torch.bfloat16), batch()
    output = model(**{**inputs, "pixel_values": inputs["pixel_values"].bfloat16()})
    assert output.logits.dtype == torch.bfloat16
    assert output.loss.isfinite()


@pytest.mark.parametrize(("text", "tied"), [("llama", True), ("gpt_neox", True), ("llama", False)])
def test_embeddings_resize_and_tie(text, tied):
    model = tiny_model(text=text, text_config={"tie_word_embeddings": tied})
    assert (model.lm_head.weight is model.get_input_embeddings().weight) == tied
    model.resize_token_embeddings(128)
    assert model.get_input_embeddings().weight.shape[0] == model.config.text_config.vocab_size == 128
    assert model(**batch()).logits.shape[-1] == 128
    assert (model.lm_head.weight is model.get_input_embeddings().weight) == tied


def test_attention_can_be_chosen_for_each_part():
    model, inputs = tiny_model(), batch()
    expected = model(**inputs).logits
    model.set_attn_implementation({"vision_config": "eager", "text_config": "sdpa"})
    assert model.model.vision_tower.config._attn_implementation == "eager"
    assert model.model.language_model.config._attn_implementation == "sdpa"
    assert model.model.vision_tower.config is model.config.vision_config
    torch.testing.assert_close(model(**inputs).logits, expected, rtol=1e-4, atol=1e-4)


def test_parts_are_where_the_library_looks():
    model = tiny_model()
    assert model.get_encoder("image") is model.model.vision_tower
    assert model.get_decoder() is model.model.language_model
    assert model.base_model is model.model
    assert {"LlamaDecoderLayer", "CLIPEncoderLayer"} <= set(model._no_split_modules)
