"""LoRA through peft: the names that docs/adapters.md gives, gradients, saving, merging."""

import re
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForImageTextToText

from tests.modeling.tiny_models import tiny_frames, tiny_model, tiny_prompt

peft = pytest.importorskip("peft")
PAGE = (Path(__file__).resolve().parents[2] / "docs" / "adapters.md").read_text(encoding="utf-8")
# The page is the home of these patterns: its table's first two columns, in which a bar is escaped.
PATTERNS = dict(re.findall(r"^\| ([a-z ]+) \| `([^`]+)` \|", PAGE.replace(r"\|", "|"), re.MULTILINE))
LANGUAGE, TOWER = 2 * 7, 2 * 6  # layers built x linear layers in each


def example() -> dict[str, torch.Tensor]:
    return {"input_ids": torch.tensor([tiny_prompt(5, 0, 7, 0, 9)]), "pixel_values": tiny_frames(2)}


def adapted(pattern: str | list[str], **fields):
    """A tiny model with adapters that are not zero."""
    torch.manual_seed(1)
    config = peft.LoraConfig(r=2, target_modules=pattern, init_lora_weights=False, **fields)
    return peft.get_peft_model(tiny_model(), config).eval()


def layers_of(model) -> set[str]:
    return {name.split(".lora_")[0] for name, _ in model.named_parameters() if ".lora_A." in name}


@pytest.mark.parametrize(
    ("part", "prefix", "count"),
    [
        ("language model", "model.language_model.layers.", LANGUAGE),
        ("vision tower", "model.vision_tower.encoder.layers.", TOWER),
        ("projector", "model.multi_modal_projector.", 2),
        ("everything linear", "model.", LANGUAGE + TOWER + 2),  # neither the head nor the selector
    ],
)
def test_patterns_of_the_page(part, prefix, count):
    model = adapted(PATTERNS[part])
    names = {name.removeprefix("base_model.model.") for name in layers_of(model)}
    assert len(names) == count and all(name.startswith(prefix) for name in names)
    model(**example(), labels=example()["input_ids"]).loss.backward()
    for name, parameter in model.named_parameters():
        trains = ".lora_" in name
        assert parameter.requires_grad == trains and (parameter.grad is not None) == trains, name
        assert not trains or parameter.grad.abs().sum() > 0, name


def test_the_selector_is_trained_whole():
    model = adapted(PATTERNS["language model"], modules_to_save=["selector"])
    model(**example(), labels=example()["input_ids"]).loss.backward()
    selector = {name: p for name, p in model.named_parameters() if ".selector." in name and p.requires_grad}
    assert {name.rsplit("default.", 1)[-1] for name in selector} == {
        "pre_proj.weight",
        "pre_proj.bias",
        "trans_weight",
        "trans_bias",
    }
    assert all(parameter.grad.abs().sum() > 0 for parameter in selector.values())


@pytest.mark.parametrize("part", ["language model", "everything linear"])
def test_saving_and_merging_give_the_same_logits(tmp_path, part):
    model = adapted(PATTERNS[part], modules_to_save=["selector"])
    with torch.no_grad():
        model.base_model.model.model.selector.modules_to_save["default"].trans_bias += torch.arange(16) * 0.1
        before, plain = model(**example()).logits, tiny_model()(**example()).logits
    assert not torch.allclose(before, plain)
    model.save_pretrained(tmp_path / "adapter")
    loaded = peft.PeftModel.from_pretrained(tiny_model(), tmp_path / "adapter").eval()
    with torch.no_grad():
        assert torch.equal(loaded(**example()).logits, before)
        merged = loaded.merge_and_unload()
        torch.testing.assert_close(merged(**example()).logits, before, rtol=1e-4, atol=1e-4)
        merged.save_pretrained(tmp_path / "merged")
        again = AutoModelForImageTextToText.from_pretrained(tmp_path / "merged")
        assert torch.equal(again(**example()).logits, merged(**example()).logits)
        ids = [m.generate(**example(), max_new_tokens=4, do_sample=False) for m in (model, again)]
    assert torch.equal(*ids)


def test_adapters_over_sixteen_bits(tmp_path):
    """Base in bfloat16, adapters in float32, as QLoRA has them."""
    tiny_model().save_pretrained(tmp_path)
    base = AutoModelForImageTextToText.from_pretrained(tmp_path, dtype=torch.bfloat16)
    config = peft.LoraConfig(r=2, target_modules=PATTERNS["everything linear"], modules_to_save=["selector"])
    model = peft.get_peft_model(peft.prepare_model_for_kbit_training(base, use_gradient_checkpointing=False), config)
    model(**example(), labels=example()["input_ids"]).loss.backward()
    trained = [p for name, p in model.named_parameters() if p.requires_grad and "lora_B" in name]
    assert trained and all(p.grad is not None and p.grad.isfinite().all() for p in trained)
