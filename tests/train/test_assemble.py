"""A model put together from pretrained halves has their weights, sees frames of another size, and trains."""

from types import SimpleNamespace

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    CLIPConfig,
    CLIPModel,
    Dinov2Config,
    Dinov2Model,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    SiglipVisionConfig,
    SiglipVisionModel,
)

from train.config import AssembleConfig
from train.sft import run_recipe
from train.start import NORMALIZATION, assemble

from .tiny_recipe import recipe, stage, synthetic

WORDS = ["<unk>", "</s>", "Frame", "USER:", "ASSISTANT:", "[", "]", ",", *map(str, range(101))]
SIZES = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
TOWERS = {
    "clip": lambda: CLIPModel(  # both halves, as on the Hub: the text half is left out
        CLIPConfig(
            text_config={**SIZES, "vocab_size": 50},
            vision_config={**SIZES, "image_size": 28, "patch_size": 14},
        )
    ),
    "siglip": lambda: SiglipVisionModel(SiglipVisionConfig(**SIZES, image_size=28, patch_size=14)),
    "dinov2": lambda: Dinov2Model(
        Dinov2Config(hidden_size=16, num_hidden_layers=2, num_attention_heads=2, image_size=28, patch_size=14)
    ),
}


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    folder = tmp_path_factory.mktemp("text")
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>", eos_token="</s>").save_pretrained(folder)
    sizes = {"hidden_size": 24, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}
    torch.manual_seed(1)
    LlamaForCausalLM(LlamaConfig(**sizes, vocab_size=len(WORDS), tie_word_embeddings=True)).save_pretrained(folder)
    return folder


@pytest.fixture(params=TOWERS)
def tower(request, tmp_path):
    torch.manual_seed(2)
    model = TOWERS[request.param]()
    model.save_pretrained(tmp_path / "tower")
    return request.param, model, tmp_path / "tower"


def settings(tower, text, **changes):
    fields = {"elysium": {"num_image_tokens": 3, "selector_scorer": "mlp"}, **changes}
    return AssembleConfig(vision=str(tower), text=str(text), **fields)


def test_the_halves_are_theirs(tower, text):
    kind, source, folder = tower
    model, processor = assemble(settings(folder, text), seed=0)
    source = source.vision_model if kind == "clip" else source
    theirs = source.state_dict()
    ours = model.model.vision_tower.state_dict()
    assert ours and all(torch.equal(value, theirs[name]) for name, value in ours.items())
    causal = LlamaForCausalLM.from_pretrained(text)
    for name, value in causal.model.state_dict().items():
        assert torch.equal(value, model.model.language_model.state_dict()[name]), name
    assert model.lm_head.weight is model.get_input_embeddings().weight  # tied as in its half
    assert torch.equal(model.lm_head.weight, causal.lm_head.weight)
    # The image token stands behind the vocabulary, in which it has no row.
    assert model.config.image_token_id == len(WORDS) == model.config.text_config.vocab_size
    assert list(processor.image_processor.image_mean) == NORMALIZATION[kind][0]
    assert processor.image_processor.size == {"height": 28, "width": 28}


def test_the_same_seed_gives_the_same_selector(tower, text):
    first, second, other = (assemble(settings(tower[2], text), seed)[0].state_dict() for seed in (0, 0, 1))
    new = [name for name in first if "selector" in name or "projector" in name]
    assert new and all(torch.equal(first[name], second[name]) for name in new)
    assert any(not torch.equal(first[name], other[name]) for name in new)


def test_frames_of_another_size(tower, text):
    """Position embeddings are spread over more patches: what lay in a corner lies in that corner."""
    kind, source, folder = tower
    model, processor = assemble(settings(folder, text, image_size=56, system=""), seed=0)
    assert model.config.patch_grid == (4, 4) and processor.image_processor.size["height"] == 56
    assert 'set vicuna = ""' in processor.chat_template
    names = [name for name in model.model.vision_tower.state_dict() if "position_embedding" in name]
    assert names
    (ours,) = (
        model.model.vision_tower.state_dict()[name].reshape(-1, 16)[-16:] for name in names if "ids" not in name
    )
    source = source.vision_model if kind == "clip" else source
    theirs = {name: value.reshape(-1, 16)[-4:] for name, value in source.state_dict().items()}[names[0]]
    for corner, theirs_at in ((0, 0), (3, 1), (12, 2), (15, 3)):
        similarity = torch.nn.functional.cosine_similarity(ours[corner], theirs, dim=-1)
        assert similarity.argmax() == theirs_at


def test_an_assembled_model_trains(tower, text, tmp_path):
    one = recipe(stage(name="a", train=["selector", "multi_modal_projector"], sources=[synthetic({"rec": 1.0})]))
    one.build, one.assemble = None, settings(tower[2], text)
    one.stages[0].num_frames = (1, 1)
    final = run_recipe(one, tmp_path / "run")
    card = (final / "README.md").read_text()
    assert f"vision tower `{tower[2]}` and the language model `{text}`" in card and "license: other" in card


def test_a_gguf_file_is_read_into_plain_weights(text, tmp_path, monkeypatch):
    """What transformers makes of a GGUF file still says that it is quantized, and a trainer would refuse it."""
    TOWERS["siglip"]().save_pretrained(tmp_path / "tower")
    read, asked = LlamaForCausalLM.from_pretrained, []

    def of_gguf(name, *, gguf_file=None, **options):
        asked.append(gguf_file)
        model = read(name, **options)
        model.config.quantization_config = {"quant_method": "gguf", "gguf_file": gguf_file}
        return model

    monkeypatch.setattr("train.start.AutoModelForCausalLM", SimpleNamespace(from_pretrained=of_gguf))
    monkeypatch.setattr("train.start.AutoTokenizer.from_pretrained", lambda name, **_: _tokenizer(name))
    model, _ = assemble(settings(tmp_path / "tower", text, gguf_file="a.gguf"), seed=0)
    assert asked == ["a.gguf"] and not hasattr(model.config.text_config, "quantization_config")


def _tokenizer(folder):
    return PreTrainedTokenizerFast.from_pretrained(folder)


@pytest.mark.parametrize(("half", "key"), [("vision", "vision"), ("text", "text")])
def test_a_half_that_is_not_there(tmp_path, text, half, key):
    TOWERS["siglip"]().save_pretrained(tmp_path / "tower")
    one = settings(tmp_path / "tower", text)
    setattr(one, half, str(tmp_path / "nowhere"))
    with pytest.raises(ValueError, match=f"assemble: {key}: .*nowhere' does not load"):
        assemble(one, 0)
