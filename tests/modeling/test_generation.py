import pytest
import torch

from modeling_elysium.outputs import CACHE_NAME
from tests.modeling.test_modeling_elysium import slow_raster_positions
from tests.modeling.tiny_models import IMAGE_TOKEN_ID, left_padded, tiny_frames, tiny_model, tiny_prompt

MODES = pytest.mark.parametrize("mode", ["packed", "original"])
GREEDY = {"max_new_tokens": 8, "min_new_tokens": 8, "do_sample": False}
LONG, SHORT = tiny_prompt(5, 0, 7, 8, 0, 9, 10), tiny_prompt(6, 0, 12)


def model_of(mode: str, **fields):
    return tiny_model(position_ids_mode=mode, **fields)


def slow_greedy(model, ids: list[int], frames: torch.Tensor, steps: int = 8) -> list[int]:
    """No cache, no `generate`: the whole sequence anew for each token, positions written by hand."""
    kept = model.get_image_features(frames).kept_indices.tolist()
    answer = []
    for _ in range(steps):
        row = ids + answer
        positions = range(len(row))
        if model.config.position_ids_mode == "original":
            positions = slow_raster_positions(row, kept, model.config.num_patches)
        with torch.no_grad():
            logits = model(
                input_ids=torch.tensor([row]),
                pixel_values=frames,
                position_ids=torch.tensor([list(positions)]),
                attention_mask=torch.ones(1, len(row)),
                use_cache=False,
            ).logits[0, -1]
        logits[[IMAGE_TOKEN_ID, 2]] = -torch.inf  # never a placeholder; the end is held back by min_new_tokens
        answer.append(int(logits.argmax()))
    return answer


def answer(model, ids: list[int], frames: torch.Tensor, **options) -> list[int]:
    inputs = {"input_ids": torch.tensor([ids]), "pixel_values": frames}
    return model.generate(**inputs, **{**GREEDY, **options})[0, len(ids) :].tolist()


@MODES
@pytest.mark.parametrize("text", ["llama", "qwen2"])
def test_generate_equals_the_slow_way(mode, text):
    model, frames = model_of(mode, text=text), tiny_frames(2)
    expected = slow_greedy(model, LONG, frames)
    assert len(set(expected)) > 1
    assert answer(model, LONG, frames) == expected


@MODES
@pytest.mark.parametrize(
    "options",
    [
        {"cache_implementation": "static"},
        {"use_cache": False},
        {"prefill_chunk_size": 5},
        {"prompt_lookup_num_tokens": 3},
        {"cache_implementation": "static", "prefill_chunk_size": 7},
    ],
    ids=lambda options: "+".join(options),
)
def test_ways_to_decode_agree(mode, options):
    model, frames = model_of(mode), tiny_frames(2)
    assert answer(model, LONG, frames, **options) == answer(model, LONG, frames)


@MODES
def test_an_assistant_model_sees_the_frames(mode):
    model, assistant, frames = model_of(mode), model_of(mode), tiny_frames(2)
    with torch.no_grad():
        expected = model(input_ids=torch.tensor([LONG]), pixel_values=frames).logits[:, -1]
    said = []
    assistant.register_forward_hook(lambda _, __, output: said.append(output.logits[:, -1]))
    assert answer(model, LONG, frames, assistant_model=assistant) == answer(model, LONG, frames)
    torch.testing.assert_close(said[0], expected)


@MODES
@pytest.mark.parametrize("fields", [{}, {"text_config": {"hidden_size": 32}}, {"text": "qwen2"}], ids=str)
def test_any_assistant_model_changes_no_token(mode, fields):
    model, frames = model_of(mode), tiny_frames(2)
    assistant = model_of(mode, seed=1, **fields)
    assert answer(model, LONG, frames, assistant_model=assistant) == answer(model, LONG, frames)


@MODES
@pytest.mark.parametrize("cache", [None, "static"])
def test_left_padded_batch_equals_single_rows(mode, cache):
    model, frames = model_of(mode), tiny_frames(3)
    single = [answer(model, LONG, frames[:2]), answer(model, SHORT, frames[2:])]
    inputs = left_padded(LONG, SHORT)
    found = model.generate(**inputs, pixel_values=frames, cache_implementation=cache, **GREEDY)
    assert found[:, len(LONG) :].tolist() == single


@MODES
def test_beams_and_several_answers(mode):
    model, frames = model_of(mode), tiny_frames(3)
    options = {"num_beams": 3, "num_return_sequences": 2, **GREEDY}
    inputs = left_padded(LONG, SHORT)
    found = model.generate(**inputs, pixel_values=frames, **options)[:, len(LONG) :].tolist()
    single = []
    for ids, own in ((LONG, frames[:2]), (SHORT, frames[2:])):
        output = model.generate(input_ids=torch.tensor([ids]), pixel_values=own, **options)
        single += output[:, len(ids) :].tolist()
    assert found == single


@MODES
def test_sampling_several_answers(mode):
    model, frames = model_of(mode), tiny_frames(2)
    inputs = {"input_ids": torch.tensor([LONG]), "pixel_values": frames}
    # Sampling from the best token alone is greedy: so every copy must equal the greedy answer.
    found = model.generate(
        **inputs, max_new_tokens=8, min_new_tokens=8, do_sample=True, top_k=1, num_return_sequences=3
    )
    assert found[:, len(LONG) :].tolist() == [answer(model, LONG, frames)] * 3


@MODES
def test_encoded_frames_are_used_again(mode):
    model, frames = model_of(mode), tiny_frames(2)
    expected = answer(model, LONG, frames)
    features = model.get_image_features(frames)
    calls = []
    model.model.vision_tower.register_forward_hook(lambda *_: calls.append(1))
    for _ in range(2):
        ids = torch.tensor([LONG])
        found = model.generate(input_ids=ids, mm_encoder_outputs={"image": features}, **GREEDY)
        assert found[0, len(LONG) :].tolist() == expected
    assert calls == []
    assert answer(model, LONG, frames) == expected and calls == [1]  # and frames are encoded once per call


@MODES
def test_prefix_cache_goes_on_with_the_whole_sequence(mode):
    """Frames in the cache are counted from the ids; frames after it come with their features."""
    model, frames = model_of(mode), tiny_frames(2)
    expected = answer(model, LONG, frames)
    split = LONG.index(8)  # one frame before, one after
    whole = torch.tensor([LONG])
    first = model.get_image_features(frames[:1])
    positions = model.model.get_position_ids(whole[:, :split] == IMAGE_TOKEN_ID, features=first)
    prefix = model(
        input_ids=whole[:, :split], mm_encoder_outputs={"image": first}, position_ids=positions, use_cache=True
    )
    found = model.generate(input_ids=whole, **{CACHE_NAME: prefix[CACHE_NAME]}, pixel_values=frames[1:], **GREEDY)
    assert found[0, len(LONG) :].tolist() == expected


def test_original_mode_refuses_to_guess_cached_frames():
    model, frames = model_of("original"), tiny_frames(1)
    ids = torch.tensor([SHORT])
    cache = model(input_ids=ids, pixel_values=frames, use_cache=True)[CACHE_NAME]
    mask = torch.ones(1, len(SHORT) + 2, dtype=torch.long)
    with pytest.raises(ValueError, match="pass the whole sequence"):
        model.generate(input_ids=torch.tensor([[7, 8]]), attention_mask=mask, **{CACHE_NAME: cache}, **GREEDY)


@MODES
def test_generation_from_embeddings(mode):
    model, frames = model_of(mode), tiny_frames(2)
    embeds = model.get_input_embeddings()(torch.tensor([LONG]))
    found = model.generate(inputs_embeds=embeds, pixel_values=frames, **GREEDY)
    assert found[0].tolist() == answer(model, LONG, frames)


def test_placeholders_are_never_generated():
    model = model_of("packed")
    model.lm_head.weight.data[IMAGE_TOKEN_ID] = 100.0
    ids = torch.tensor([tiny_prompt(5, 6)])
    for sign in (1.0, -1.0):
        model.lm_head.weight.data[IMAGE_TOKEN_ID] *= sign
        assert IMAGE_TOKEN_ID not in model.generate(input_ids=ids, **GREEDY)[0].tolist()


@pytest.mark.parametrize("part", ["whole", "base"])
def test_the_cache_goes_by_both_its_names(part):
    whole = model_of("packed")
    model, ids = whole if part == "whole" else whole.model, torch.tensor([tiny_prompt(5, 6, 7)])
    expected = model(input_ids=ids)[0][:, -1]

    def cached():
        return model(input_ids=ids[:, :-1], use_cache=True)[CACHE_NAME]

    for name in ("cache", "past_key_values"):
        torch.testing.assert_close(model(input_ids=ids[:, -1:], **{name: cached()})[0][:, -1], expected)
    with pytest.raises(ValueError, match="pass the cache once"):
        model(input_ids=ids[:, -1:], cache=cached(), past_key_values=cached())


def test_text_alone():
    model = model_of("original")
    ids = torch.tensor([tiny_prompt(5, 6)])
    packed = model_of("packed")
    assert torch.equal(model.generate(input_ids=ids, **GREEDY), packed.generate(input_ids=ids, **GREEDY))


@MODES
def test_compiled_decoding_step(mode):
    model, frames = model_of(mode), tiny_frames(2)
    expected = answer(model, LONG, frames)
    model.forward = torch.compile(model.forward, fullgraph=True, backend="eager", dynamic=True)
    assert answer(model, LONG, frames, cache_implementation="static") == expected


@pytest.mark.slow  # compiles kernels
@MODES
def test_flex_attention(mode):
    """One row: torch 2.13 writes C++ that does not compile for the left-padded mask of a decoding step on a CPU."""
    # Flex attention refuses heads narrower than 16.
    model = model_of(mode, vision_config={"hidden_size": 64}, text_config={"hidden_size": 64})
    frames = tiny_frames(2)
    expected = answer(model, LONG, frames)
    model.set_attn_implementation("flex_attention")
    assert answer(model, LONG, frames) == expected


@pytest.mark.slow  # compiles kernels
@MODES
def test_inductor(mode):
    model, frames = model_of(mode), tiny_frames(2)
    inputs = {"input_ids": torch.tensor([LONG]), "pixel_values": frames}
    with torch.no_grad():
        expected = model(**inputs).logits
        torch.testing.assert_close(torch.compile(model)(**inputs).logits, expected, rtol=1e-4, atol=1e-4)
