"""`fast_boxes`: the tokens of greedy decoding, in fewer passes."""

import importlib.util
import re
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import LogitsProcessorList, StaticCache

from .tiny_models import DIGITS, EOS, MODELS, TOKENIZER, Script, llama, moving_boxes

FOLDER = Path(__file__).resolve().parents[2] / "fast_boxes"
STYLES = ("elysium", "qwen", "shikra")


def load():
    path = FOLDER / "custom_generate" / "generate.py"
    spec = importlib.util.spec_from_file_location("fast_boxes_generate", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


CODE = load()


def scripted(inputs, script):
    return LogitsProcessorList([Script(script, inputs["input_ids"].shape[1])])


def both(model, inputs, tokenizer=TOKENIZER, **options):
    """Greedy decoding and ours; the passes of the model are counted by a hook, not taken from the report."""
    options = {"max_new_tokens": 80, "return_dict_in_generate": True} | options
    counts = []
    handle = model.register_forward_hook(lambda *_: counts.append(1))
    greedy = model.generate(**inputs, do_sample=False, **options)
    greedy_passes = len(counts)
    ours = CODE.generate(model, tokenizer=tokenizer, **inputs, **options)
    handle.remove()
    assert ours.passes == len(counts) - greedy_passes
    assert ours.new_tokens == ours.sequences.shape[1] - inputs["input_ids"].shape[1] == greedy_passes
    return greedy, ours


@pytest.mark.parametrize("tokenizer", [TOKENIZER, None], ids=["numbers", "tokens"])
@pytest.mark.parametrize("name", MODELS)
def test_free_text_of_a_random_model_is_equal(name, tokenizer):
    model, inputs = MODELS[name]()
    greedy, ours = both(model, inputs, tokenizer, max_new_tokens=150)
    assert torch.equal(greedy.sequences, ours.sequences)


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("tokenizer", [TOKENIZER, None], ids=["numbers", "tokens"])
@pytest.mark.parametrize("name", MODELS)
def test_boxes_whose_digits_the_model_chooses_are_equal(name, tokenizer, style):
    model, inputs = MODELS[name]()
    script = re.sub(r"\d", "?", moving_boxes(style, 5))
    options = {"logits_processor": scripted(inputs, script), "max_new_tokens": 300}
    greedy, ours = both(model, inputs, tokenizer, output_scores=True, output_logits=True, **options)
    assert torch.equal(greedy.sequences, ours.sequences)
    assert len(set(ours.sequences[0].tolist()) & set(DIGITS)) > 1
    assert ours.sequences[0, -1] == EOS and ours.new_tokens == len(script) + 1
    assert ours.passes < ours.new_tokens / 1.2
    for field in ("scores", "logits"):
        for a, b in zip(greedy[field], ours[field], strict=True):
            torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(("style", "most"), [("elysium", 2.2), ("qwen", 3.2), ("shikra", 3)])
def test_moving_boxes_take_few_passes(style, most):
    model, inputs = llama()
    options = {"logits_processor": scripted(inputs, moving_boxes(style, 20)), "max_new_tokens": 2000}
    greedy, ours = both(model, inputs, **options)
    assert torch.equal(greedy.sequences, ours.sequences)
    assert ours.boxes == 20
    assert ours.passes_per_box == ours.passes / 20 <= most
    assert ours.passes_per_token == ours.passes / ours.new_tokens


@settings(max_examples=25)
@given(st.lists(st.text("[]0123456789,. F", min_size=1, max_size=12), min_size=1, max_size=4), st.integers(1, 60))
def test_any_text_and_any_limit_are_equal(parts, limit):
    model, inputs = llama()
    options = {"logits_processor": scripted(inputs, "".join(parts) * 3), "max_new_tokens": limit}
    greedy, ours = both(model, inputs, **options)
    assert torch.equal(greedy.sequences, ours.sequences)
    assert ours.new_tokens <= limit and ours.passes <= ours.new_tokens


def test_it_stops_at_a_string_and_keeps_a_penalty():
    model, inputs = llama()
    options = {"logits_processor": scripted(inputs, moving_boxes("elysium", 6)), "max_new_tokens": 300}
    options |= {"stop_strings": ["Frame 5"], "tokenizer": TOKENIZER}
    greedy = model.generate(**inputs, do_sample=False, **options)
    ours = CODE.generate(model, **inputs, **options)
    assert torch.equal(greedy, ours)
    assert TOKENIZER.decode(ours[0]).endswith("Frame 5")
    greedy, ours = both(model, inputs, repetition_penalty=1.5)
    assert torch.equal(greedy.sequences, ours.sequences)


def test_masked_tokens_are_not_seen():
    model, inputs = llama()
    script = scripted(inputs, "[??,??,??,??], " * 4)
    mask = inputs["attention_mask"].clone()
    mask[:, :8] = 0
    whole = CODE.generate(model, tokenizer=TOKENIZER, **inputs, logits_processor=script, max_new_tokens=100)
    masked = inputs | {"attention_mask": mask}
    greedy, ours = both(model, masked, logits_processor=script, max_new_tokens=100)
    assert torch.equal(greedy.sequences, ours.sequences)
    assert not torch.equal(whole, ours.sequences)


def test_a_sliding_window_is_equal():
    from transformers import MistralConfig, MistralForCausalLM

    from .tiny_models import SIZES

    torch.manual_seed(0)
    model = MistralForCausalLM(MistralConfig(**SIZES, sliding_window=12)).eval()
    inputs = llama()[1]
    options = {"logits_processor": scripted(inputs, "[??,??,??,??], " * 5), "max_new_tokens": 100}
    greedy, ours = both(model, inputs, **options)
    assert torch.equal(greedy.sequences, ours.sequences)
    assert ours.passes < ours.new_tokens


def test_tokens_are_streamed():
    from transformers.generation.streamers import BaseStreamer

    class Collector(BaseStreamer):
        def __init__(self):
            self.got, self.ended = [], False

        def put(self, value):
            self.got += value.flatten().tolist()

        def end(self):
            self.ended = True

    model, inputs = llama()
    collector = Collector()
    ids = CODE.generate(model, **inputs, max_new_tokens=20, streamer=collector)
    assert collector.ended and collector.got == ids[0].tolist()


def test_the_folder_is_loaded_by_generate(tmp_path, monkeypatch):
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path))
    model, inputs = llama()
    options = {"max_new_tokens": 30, "return_dict_in_generate": True}
    loading = {"custom_generate": str(FOLDER), "trust_remote_code": True}
    ours = model.generate(**inputs, tokenizer=TOKENIZER, **loading, **options)
    greedy = model.generate(**inputs, do_sample=False, **options)
    assert torch.equal(greedy.sequences, ours.sequences)
    assert ours.passes <= ours.new_tokens == 30 and ours["boxes"] == 0 and ours.passes_per_box is None


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"do_sample": True}, "do_sample=True.*Pass do_sample=False"),
        ({"num_beams": 3}, "num_beams=3.*Pass num_beams=1"),
        ({"use_cache": False}, "use_cache=False"),
        ({"cache_implementation": "static"}, "'static'"),
        ({"output_hidden_states": True, "return_dict_in_generate": True}, "output_hidden_states=True"),
        ({"prompt_lookup_num_tokens": 3}, "prompt_lookup_num_tokens.*3"),
        ({"stop_strings": ["x"]}, "needs tokenizer"),
        ({"max_draft": 0}, "max_draft.*>= 1, got 0"),
        ({"max_draft": True}, "max_draft.*got True"),
    ],
)
def test_what_is_not_greedy_decoding_of_one_sequence_is_refused(options, words):
    model, inputs = llama()
    with pytest.raises(ValueError, match=words):
        CODE.generate(model, **inputs, max_new_tokens=5, **options)


def test_batches_encoders_and_other_caches_are_refused():
    from transformers import T5Config, T5ForConditionalGeneration

    model, inputs = llama()
    two = {key: value.repeat(2, 1) for key, value in inputs.items()}
    with pytest.raises(ValueError, match="batch size 1, got 2"):
        CODE.generate(model, **two, max_new_tokens=5)
    static = StaticCache(config=model.config, max_cache_len=99)
    if all(hasattr(layer, "crop") for layer in static.layers):  # from transformers 5.24 on
        greedy = model.generate(**inputs, max_new_tokens=9, do_sample=False)
        assert torch.equal(CODE.generate(model, **inputs, max_new_tokens=9, past_key_values=static), greedy)
    else:
        with pytest.raises(ValueError, match="StaticCache is not a cache that can be cropped"):
            CODE.generate(model, **inputs, max_new_tokens=5, past_key_values=static)
    sizes = {"d_model": 8, "d_kv": 4, "d_ff": 8, "num_layers": 1, "num_heads": 2, "vocab_size": 112}
    with pytest.raises(ValueError, match="T5ForConditionalGeneration is not a decoder-only model"):
        CODE.generate(T5ForConditionalGeneration(T5Config(**sizes)), **inputs)


@pytest.mark.parametrize(
    ("guess", "begun", "fitted"),
    [
        ("40", "3", "39"),
        ("40", "5", "50"),
        ("40", "40", "40"),
        ("9", "10", None),
        (" 40", " 3", " 39"),
        ("0.123", "0.2", "0.200"),
        ("0.999", "1", "1.000"),
        ("007", "01", "010"),
    ],
)
def test_a_guess_is_fitted_to_the_digits_that_are_certain(guess, begun, fitted):
    assert CODE.fit(guess, begun) == fitted


@pytest.mark.parametrize(
    ("text", "following"),
    [
        ("Frame 1: [10,20,30,40], Frame 2: [12,20,32,40], Frame 3: ", "[14,20,34,40], Frame 4: "),
        ("[0.100,0.200,0.300,0.400]; [0.100,0.190,0.300,0.400]; ", "[0.100,0.180,0.3"),
        ("a cat, a dog, ", "a dog, a"),
        ("a bird", ""),
    ],
)
def test_drafts_continue_the_pattern(text, following):
    drafter = CODE.Drafter(TOKENIZER, TOKENIZER.encode(text, add_special_tokens=False))
    drafted = TOKENIZER.decode(drafter.draft(len(following) or 8))
    assert drafted == following[:16]  # the length of a first draft
