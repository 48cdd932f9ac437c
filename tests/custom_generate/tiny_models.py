"""Tiny random models of three families, and a script that their answers follow with digits of their own."""

import torch
from transformers import (
    CLIPVisionConfig,
    LlamaConfig,
    LlamaForCausalLM,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LogitsProcessor,
    Qwen2VLConfig,
    Qwen2VLForConditionalGeneration,
)

from tests.processing.tiny_processor import tiny_tokenizer

TOKENIZER = tiny_tokenizer()
EOS = TOKENIZER.eos_token_id
IMAGE = TOKENIZER.convert_tokens_to_ids("<image>")
DIGITS = TOKENIZER.convert_tokens_to_ids(list("0123456789"))
SIZES = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 112,
    "initializer_range": 0.4,
    "max_position_embeddings": 4096,
    "eos_token_id": EOS,
    "bos_token_id": 1,
    "pad_token_id": 0,
}
QUESTION = "Track: [12,30,45,60]. Answer: "


def _ids(text):
    return TOKENIZER(text, return_tensors="pt", add_special_tokens=False)


def llama(**fields):
    torch.manual_seed(0)
    return LlamaForCausalLM(LlamaConfig(**SIZES | fields)).eval(), dict(_ids(QUESTION))


def llava():
    torch.manual_seed(0)
    vision = CLIPVisionConfig(
        hidden_size=16, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2, image_size=28, patch_size=14
    )
    config = LlavaConfig(vision_config=vision, text_config=LlamaConfig(**SIZES), image_token_id=IMAGE)
    inputs = dict(_ids("<image>" * 4 + QUESTION)) | {"pixel_values": torch.randn(1, 3, 28, 28)}
    return LlavaForConditionalGeneration(config).eval(), inputs


def qwen2_vl():
    torch.manual_seed(0)
    rope = {"rope_type": "default", "type": "default", "mrope_section": [1, 1, 2], "rope_theta": 10000.0}
    vision = {"depth": 2, "embed_dim": 16, "hidden_size": 32, "num_heads": 2, "mlp_ratio": 2, "patch_size": 4}
    special = {
        "image_token_id": IMAGE,
        "video_token_id": 105,
        "vision_start_token_id": 106,
        "vision_end_token_id": 107,
    }
    config = Qwen2VLConfig(text_config=SIZES | {"rope_parameters": rope}, vision_config=vision, **special)
    text = _ids("<image>" * 4 + QUESTION)
    inputs = dict(text) | {
        "pixel_values": torch.randn(16, 3 * 2 * 4 * 4),
        "image_grid_thw": torch.tensor([[1, 4, 4]]),
        "mm_token_type_ids": (text["input_ids"] == IMAGE).long(),
    }
    return Qwen2VLForConditionalGeneration(config).eval(), inputs


MODELS = {"llama": llama, "llava": llava, "qwen2_vl": qwen2_vl}


class Script(LogitsProcessor):
    """Force an answer's text; at each `?` the model chooses a digit by its own logits; then the text ends."""

    def __init__(self, script, prompt_length):
        self.script, self.prompt_length = script, prompt_length

    def __call__(self, input_ids, scores):
        at = input_ids.shape[1] - self.prompt_length
        if at >= len(self.script):
            allowed = [EOS]
        elif self.script[at] == "?":
            allowed = DIGITS
        else:
            allowed = TOKENIZER.convert_tokens_to_ids([self.script[at]])
        masked = torch.full_like(scores, -torch.inf)
        masked[:, allowed] = scores[:, allowed]
        return masked


def moving_boxes(style, count):
    """An answer with boxes that move by a step each frame, in one of three formats."""
    lines = []
    for frame in range(count):
        box = [12 + 2 * frame, 30 + frame // 2, 45 + 2 * frame, 60]
        if style == "elysium":
            lines.append(f"Frame {frame + 1}: [{','.join(map(str, box))}], ")
        elif style == "qwen":
            lines.append('{"bbox_2d": [' + ", ".join(map(str, box)) + '], "label": "dog"},\n')
        else:
            lines.append(f"[{','.join(f'{number / 1000:.3f}' for number in box)}]; ")
    return "".join(lines)
