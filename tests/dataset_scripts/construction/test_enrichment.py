"""A model's words join the captions: a tiny random model of transformers, and a whole video with more words."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from dataset_scripts.construction.backends.describer import ImageTextDescriber
from dataset_scripts.construction.backends.make import make_components
from dataset_scripts.construction.backends.opencv import OpenCVTrackers
from dataset_scripts.construction.config import BackendConfig, BuildConfig, InputConfig
from dataset_scripts.construction.enrichment import EnrichmentConfig, enriched
from dataset_scripts.construction.items import CaptionedVideo, PoisonedVideoError
from dataset_scripts.construction.noun_chunks import load_spacy
from dataset_scripts.construction.process import Components, VideoProcessor
from dataset_scripts.synthetic.write import write_video

from .test_process import BrightGrounder

WORDS = ["<pad>", "</s>", "<image>", "user", "what", "is", "here", "?", *(f"word{n}" for n in range(24))]
TEMPLATE = (
    "{% for m in messages %}{{ m.role }} {% for c in m.content %}"
    "{% if c.type == 'image' %}<image> {% else %}{{ c.text }} {% endif %}{% endfor %}{% endfor %}"
)


def write_llava(folder, chat=True):
    """A LLaVA of random weights whose words are listed above."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlavaConfig, LlavaForConditionalGeneration, LlavaProcessor, PreTrainedTokenizerFast
    from transformers.models.clip import image_processing_pil_clip as images

    backend = Tokenizer(models.WordLevel({word: n for n, word in enumerate(WORDS)}, unk_token="<pad>"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    special = {"pad_token": "<pad>", "eos_token": "</s>", "additional_special_tokens": ["<image>"]}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, **special)
    side = {"height": 32, "width": 32}
    LlavaProcessor(
        images.CLIPImageProcessorPil(size=side, crop_size=side), tokenizer, patch_size=16, image_token="<image>",
        vision_feature_select_strategy="default", num_additional_image_tokens=1,
        chat_template=TEMPLATE if chat else None,
    ).save_pretrained(folder)  # fmt: skip
    tower = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    torch.manual_seed(0)
    config = LlavaConfig(
        vision_config={"model_type": "clip_vision_model", **tower, "image_size": 32, "patch_size": 16},
        text_config={"model_type": "llama", **tower, "vocab_size": len(WORDS), "num_key_value_heads": 2},
        image_token_index=WORDS.index("<image>"), vision_feature_layer=-1,
    )  # fmt: skip
    model = LlavaForConditionalGeneration(config)
    with torch.no_grad():  # random weights hardly look at the picture
        for module in (model.model.multi_modal_projector.linear_1, model.model.multi_modal_projector.linear_2):
            module.weight.mul_(30)
    model.save_pretrained(folder)


def pictures():
    return list(np.random.default_rng(0).integers(0, 256, (3, 40, 50, 3), dtype=np.uint8))


@pytest.mark.parametrize("batch_size", [1, 2])
def test_a_model_of_transformers(tmp_path, batch_size):
    write_llava(tmp_path)
    describer = ImageTextDescriber(str(tmp_path), batch_size=batch_size, max_new_tokens=5)
    texts = describer.describe(pictures(), "what is here ?")
    assert len(texts) == 3 and len(set(texts)) > 1 and all(1 <= len(text.split()) <= 5 for text in texts)
    model, processor = describer._model, describer._processor  # the same step by step, without generate
    inputs = processor(images=Image.fromarray(pictures()[0]), text="user <image> what is here ? ", return_tensors="pt")
    tokens = inputs["input_ids"]
    with torch.inference_mode():
        for _ in range(5):
            out = model(input_ids=tokens, pixel_values=inputs["pixel_values"])
            tokens = torch.cat([tokens, out.logits[:, -1:].argmax(-1)], dim=1)
    said = [WORDS[token] for token in tokens[0, inputs["input_ids"].shape[1] :].tolist()]
    said = said[: said.index("</s>")] if "</s>" in said else said
    assert texts[0].split() == [word for word in said if word not in ("<pad>", "<image>")]


def test_a_model_without_turns_is_asked_as_it_is(tmp_path):
    write_llava(tmp_path, chat=False)
    describer = ImageTextDescriber(str(tmp_path), max_new_tokens=2)
    assert (
        describer._question("<image> what") == "<image> what" and len(describer.describe(pictures(), "<image>")) == 3
    )


class Says:
    def __init__(self, *texts):
        self.texts, self.asked = list(texts), []

    def describe(self, frames, prompt):
        self.asked.append((len(frames), prompt))
        return self.texts


@pytest.mark.parametrize(
    ("how", "caption", "texts", "result"),
    [
        ("append", "A  dog runs", ["a red ball"], "A dog runs. a red ball."),
        ("append", "A dog runs!", ["A ball.", "A cat"], "A dog runs! A ball. A cat."),
        ("append", " ", ["one two three four five six"], "one two three four five."),
        ("append", "A dog.", [""], "A dog."),
        ("replace", "A dog.", ["A cat"], "A cat."),
    ],
)
def test_captions(how, caption, texts, result):
    config = EnrichmentConfig(how=how, max_words=5)
    assert enriched(caption, pictures()[: len(texts)], Says(*texts), config) == result


@pytest.mark.parametrize("describer", [Says(), Says(3), object()])
def test_a_model_that_fails_puts_the_video_aside(describer):
    with pytest.raises(PoisonedVideoError, match="enrichment_error"):
        enriched("A dog.", pictures()[:1], describer, EnrichmentConfig())


@pytest.mark.parametrize(
    ("settings", "says"),
    [({"how": "mix"}, "append, replace, if_empty"), ({"frames": 0}, "frames=0"), ({"prompt": " "}, "is empty")],
)
def test_settings(settings, says):
    with pytest.raises(ValueError, match=says):
        EnrichmentConfig(**settings)


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    pytest.importorskip("filterpy")
    path = tmp_path_factory.mktemp("video") / "a.mp4"
    rng = np.random.default_rng(0)
    frames = np.repeat(rng.integers(0, 90, (1, 96, 96, 3), dtype=np.uint8), 12, axis=0)
    for number, frame in enumerate(frames):
        frame[30:60, 20 + number : 50 + number] = rng.integers(180, 256, (30, 30, 3), dtype=np.uint8)
    write_video(path, frames)
    return path


@pytest.mark.parametrize(
    ("how", "caption", "phrases"),
    [
        (None, "It is night.", []),  # off
        ("append", "It is night.", ["A white square"]),
        ("if_empty", "It is night.", []),
        ("if_empty", " ", ["A white square"]),
    ],
)
def test_more_words_give_more_trajectories(video, how, caption, phrases):
    pytest.importorskip("spacy")
    config = BuildConfig(
        input=InputConfig("folder", str(video.parent)), output=str(video.parent / "out"),
        grounder=BackendConfig("custom"), tracker=BackendConfig("csrt"),
        enrichment=EnrichmentConfig(enabled=how is not None, how=how or "append"),
    )  # fmt: skip
    describer = Says("A white square")
    parts = Components(load_spacy("en_core_web_sm"), BrightGrounder(), OpenCVTrackers("csrt"), describer)
    item = CaptionedVideo(id="a", caption=caption, video=str(video), source="s")
    result = VideoProcessor(config, parts).process(item)
    assert result.quarantined is None, result.quarantined
    assert [row.phrase for row in result.rows if row.phrase != "night"] == phrases
    if phrases:
        (row,) = [row for row in result.rows if row.phrase == "A white square"]
        assert row.caption.endswith("A white square.") and row.provenance["caption_before_enrichment"] == caption
        assert describer.asked == [(1, config.enrichment.prompt)] and result.seconds["enrichment"] >= 0
    missing = VideoProcessor(config, parts).process(replace(item, video="gone.mp4", caption=" "))
    assert how is None or missing.quarantined[0] == "video_missing"


def test_components_are_made_by_the_configuration(tmp_path):
    pytest.importorskip("spacy")
    write_llava(tmp_path)
    config = BuildConfig(
        input=InputConfig("folder", "."), output="out", tracker=BackendConfig("kcf"),
        grounder=BackendConfig("custom", {"factory": f"{__name__}:BrightGrounder"}),
    )  # fmt: skip
    assert make_components(config, "cpu").describer is None
    asked = EnrichmentConfig(True, {"checkpoint": str(tmp_path), "max_new_tokens": 1})
    assert isinstance(make_components(replace(config, enrichment=asked), "cpu").describer, ImageTextDescriber)
    with pytest.raises(ValueError, match="max_new_tokens=0"):
        asked = EnrichmentConfig(True, {"checkpoint": str(tmp_path), "max_new_tokens": 0})
        make_components(replace(config, enrichment=asked), "cpu")
    with pytest.raises(ValueError, match="enrichment.options"):
        make_components(replace(config, enrichment=EnrichmentConfig(True)), "cpu")
