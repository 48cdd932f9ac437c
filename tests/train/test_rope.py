"""A stage scales the language model's positions: longer clips train, later stages keep them, others are told."""

from dataclasses import replace

import pytest
import torch
from transformers import GPT2Config, LlamaConfig

from modeling_elysium import ElysiumConfig, ElysiumForConditionalGeneration
from processing_elysium import ElysiumProcessor
from tests.tracking.tokenizers_of_all_kinds import processor_of
from train.lengths import check_context
from train.rope import RopeConfig, scale_positions
from train.sft import make_trainer, read_recipes, run_recipe

from .tiny_recipe import BUILD, recipe, stage, synthetic

# 12 x 12 patches, of which the paper's 108 are kept: 32 frames and their text are more than 4096 positions.
LONG = replace(
    BUILD,
    vision={**BUILD.vision, "image_size": 168},
    text={**BUILD.text, "max_position_embeddings": 4096},
    elysium={**BUILD.elysium, "num_image_tokens": 108},
)
YARN = RopeConfig(factor=1.25)


def long_clips(**changes):
    settings = {"num_frames": (32, 32), "turns": 2, "sources": [synthetic({"sot": 1.0}, objects=[2, 2])]}
    return stage(batch_size=1, arguments={"max_steps": 1}, **{**settings, **changes})


def test_a_clip_beyond_the_context_trains_with_scaled_positions(tmp_path):
    with pytest.raises(ValueError, match="knows 4096 positions") as told:
        run_recipe(recipe(long_clips(), build=LONG), tmp_path)
    assert "rope: {rope_type: yarn, factor: 1.25} in the stage" in str(told.value)
    final = run_recipe(recipe(long_clips(rope=YARN), build=LONG), tmp_path)
    text = ElysiumConfig.from_pretrained(final).text_config
    assert text.max_position_embeddings == 5120
    assert (text.rope_parameters["rope_type"], text.rope_parameters["factor"]) == ("yarn", 1.25)
    # The stage after it finds the positions in the model.
    trainer = make_trainer(long_clips(name="next"), recipe(), final, tmp_path / "next", use_cpu=True)
    batch = trainer.data_collator([trainer.train_dataset[0]])
    assert batch["input_ids"].shape[1] > 4096
    assert torch.isfinite(trainer.compute_loss(trainer.model, batch))


@pytest.mark.parametrize(("rope_type", "fastest"), [("yarn", 1.0), ("linear", 0.5)])
def test_scaled_positions_turn_slower(tmp_path, rope_type, fastest):
    """The slowest rotation takes as many times longer as the factor says; yarn leaves the fastest as it is."""
    final = run_recipe(recipe(stage(rope=RopeConfig(rope_type=rope_type, factor=2.0))), tmp_path)
    before, after = (
        ElysiumForConditionalGeneration.from_pretrained(folder).model.language_model.rotary_emb.inv_freq
        for folder in (tmp_path / "start", final)
    )
    assert (after / before)[0] == pytest.approx(fastest) and (after / before)[-1] == pytest.approx(0.5)


def test_scaling_counts_from_the_pretrained_positions():
    config = ElysiumConfig(text_config=LlamaConfig(max_position_embeddings=4096))
    for rope_type in ("linear", "yarn"):
        for factor, positions in ((1.25, 5120), (2.0, 8192), (2.0, 8192)):
            assert scale_positions(config, RopeConfig(rope_type=rope_type, factor=factor)) == positions
            assert config.text_config.max_position_embeddings == positions


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"rope_type": "yarm", "factor": 2.0}, "'yarm'; give one of"),
        ({"factor": 1.0}, "above 1"),
        ({"factor": 0.5}, "above 1"),
    ],
)
def test_wrong_settings_are_told(given, message):
    with pytest.raises(ValueError, match=message):
        RopeConfig(**given)


def test_a_model_without_rotary_positions_is_told():
    config = ElysiumConfig(text_config=GPT2Config())
    with pytest.raises(ValueError, match="type 'gpt2' has no single rotary embedding"):
        scale_positions(config, YARN)


def test_the_papers_long_stage_fits_vicuna():
    """With 4096 positions it does not: the tokenizer cuts numbers into digits."""
    (one,) = read_recipes(["stage2b"]).stages
    assert one.rope == YARN
    held = processor_of("released")
    processor = ElysiumProcessor(held.image_processor, held.tokenizer, num_image_tokens=108, compat="released")
    context = scale_positions(ElysiumConfig(), one.rope)
    assert 4096 < check_context(processor, one, context) <= context == 5120
