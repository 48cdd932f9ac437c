"""Logits of every text family equal those of the library's own causal model with the same weights."""

import pytest
import torch
from transformers import AutoModelForCausalLM

from tests.modeling.tiny_models import TEXT, VOCAB_SIZE, tiny_config, tiny_model

# Families that scale their logits in ways of their own, beside those that the other tests use.
MORE = {
    "hyperclovax": {"model_type": "hyperclovax", "logits_scaling": 4.0},  # multiplies where Granite divides
    "cohere2": {"model_type": "cohere2", "logit_scale": 0.25},
    "gemma3_text": {"model_type": "gemma3_text", "head_dim": 12, "final_logit_softcapping": 3.0},
    "minicpm3": {
        "model_type": "minicpm3",
        "dim_model_base": 12,
        "qk_nope_head_dim": 8,
        "qk_rope_head_dim": 4,
        "v_head_dim": 12,
        "q_lora_rank": 16,
        "kv_lora_rank": 16,
        "num_key_value_heads": 4,
    },
}


@pytest.mark.parametrize("text", [*TEXT, *MORE])
def test_logits_are_the_text_models_own(text):
    changes = {"text_config": MORE[text]} if text in MORE else {"text": text}
    model = tiny_model(**changes)
    twin = AutoModelForCausalLM.from_config(tiny_config(**changes).text_config).eval()
    twin.get_decoder().load_state_dict(model.model.language_model.state_dict())
    twin.get_output_embeddings().weight = model.lm_head.weight
    ids = torch.arange(3, 12)[None]
    assert int(ids.max()) < VOCAB_SIZE
    with torch.no_grad():
        expected = twin(input_ids=ids).logits
        torch.testing.assert_close(model(input_ids=ids).logits, expected, atol=1e-5, rtol=1e-4)
