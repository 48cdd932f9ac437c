"""Against what the authors' code computed: their prompt text and, through their tower, their pixels.

The fixture (a tiny random checkpoint in their layout) is not part of this repository; without it the tests skip.
"""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoTokenizer, CLIPVisionConfig, CLIPVisionModel

from processing_elysium import ElysiumImageProcessor, ElysiumProcessor

FIXTURE = Path(__file__).parents[3] / "shared" / "fixtures" / "official_tiny"
pytestmark = pytest.mark.skipif(not FIXTURE.is_dir(), reason="the fixture of the authors' layout is not here")
TOWER = "visual_encoder.vision_model."


@pytest.fixture(scope="module")
def oracle():
    return np.load(FIXTURE / "oracle.npz")


@pytest.mark.parametrize("clip", ["A", "B"])
def test_pixels_through_the_authors_tower(oracle, clip):
    """hidden_states[-2] without the class token, every 8th patch, as the authors' preprocessing gives it."""
    fields = json.loads((FIXTURE / "clip" / "config.json").read_text())
    fields = fields.get("vision_config", fields)
    known = CLIPVisionConfig().to_dict()
    tower = CLIPVisionModel(CLIPVisionConfig(**{key: value for key, value in fields.items() if key in known})).eval()
    weights = load_file(FIXTURE / "model.safetensors")
    tower.load_state_dict({key.removeprefix(TOWER): v for key, v in weights.items() if key.startswith(TOWER)})
    pixels = ElysiumImageProcessor()(oracle[f"frames_vid{clip}"], return_tensors="pt")["pixel_values"]
    with torch.no_grad():
        hidden = tower(pixels, output_hidden_states=True).hidden_states[-2][:, 1::8]
    np.testing.assert_allclose(hidden.numpy(), oracle[f"{clip}.vision"], atol=2e-5)


@pytest.mark.parametrize(("clip", "num_frames"), [("A", 3), ("B", 5)])
def test_prompt_text(oracle, clip, num_frames):
    """Their prompt, with their wording passed as `prompt=`."""
    texts = json.loads((FIXTURE / "texts.json").read_text())[clip]
    tokenizer = AutoTokenizer.from_pretrained(FIXTURE / "llm")
    tokenizer.add_tokens(["<image>"], special_tokens=True)
    processor = ElysiumProcessor(ElysiumImageProcessor(), tokenizer)
    wording = texts["prompt"].split("<image>\n")[1].removesuffix("ASSISTANT:")
    if clip == "A":
        subject, wording = {"box": "[13,8,35,29]"}, wording.replace("[13,8,35,29]", "{box}")
    else:
        subject, wording = {"expression": "one red car"}, wording.replace("one red car", "{expression}")
    messages = processor.build_messages("sot" if clip == "A" else "rsot", num_frames, prompt=wording, **subject)
    assert processor.apply_chat_template(messages, add_generation_prompt=True) == "<s>" + texts["prompt"]
    ids = processor.encode([messages], [list(oracle[f"frames_vid{clip}"])])["input_ids"][0].tolist()
    assert ids.count(processor.image_token_id) == 108 * num_frames


def test_tracking_answers_cost_17_tokens_a_frame():
    tokenizer = AutoTokenizer.from_pretrained(FIXTURE / "llm")
    frame = "Frame {}: [23,45,46,72], "
    lengths = [len(tokenizer("".join(frame.format(i + 1) for i in range(n)))["input_ids"]) for n in (3, 4)]
    assert lengths[1] - lengths[0] == 17
