"""The released text conventions: one switch, and none of it without the switch."""

import numpy as np
import pytest

from processing_elysium import ElysiumImageProcessor, ElysiumProcessor
from tests.modeling.released_checkpoints import llama_like_tokenizer
from tests.processing.tiny_processor import tiny_processor, tiny_tokenizer

K = 3
SYSTEM = (
    "A chat between a curious user and an artificial intelligence assistant. The assistant gives helpful, detailed, "
    "and polite answers to the user's questions. "
)


def processor_with(**fields) -> ElysiumProcessor:
    tokenizer = llama_like_tokenizer()
    tokenizer.pad_token = "<unk>"
    tokenizer.add_tokens(["<image>"], special_tokens=True)
    image_processor = ElysiumImageProcessor(size={"height": 28, "width": 28})
    return ElysiumProcessor(image_processor, tokenizer, num_image_tokens=K, **fields)


@pytest.fixture(scope="module")
def released():
    return processor_with(compat="released")


def frames(count):
    return list(np.zeros((count, 28, 28, 3), dtype=np.uint8))


def pieces(processor, *texts):
    """Each text tokenized by itself, a `<s>` before all but the answers, which are marked by a leading `=`."""
    ids = []
    for text in texts:
        answer = text.startswith("=")
        ids += processor.tokenizer(text.removeprefix("="), add_special_tokens=not answer)["input_ids"]
        ids += [processor.tokenizer.eos_token_id] if answer else [processor.image_token_id] * K
    return ids


def test_tokens_are_those_of_the_pieces(released):
    messages = released.build_messages("chat", 2, question="Where? ", answer="In the pond.")
    messages += released.build_messages("chat", 0, question="And now?", answer="Gone")
    for part, frame in zip(messages[0]["content"], frames(2)):
        part["image"] = frame
    batch = released.apply_chat_template(
        [messages],
        tokenize=True,
        return_dict=True,
        return_assistant_tokens_mask=True,
        processor_kwargs={"return_tensors": "pt"},
    )
    first, second = SYSTEM + "USER: Frame 1: ", ", Frame 2: "
    wanted = pieces(released, first, second)
    wanted += released.tokenizer("\nWhere?ASSISTANT:")["input_ids"] + pieces(released, "=In the pond.")
    wanted += released.tokenizer("USER: And now?ASSISTANT:")["input_ids"] + pieces(released, "=Gone")
    assert batch["input_ids"][0].tolist() == wanted
    labeled = [i for i, answer in zip(wanted, batch["assistant_masks"][0]) if answer]
    assert labeled == pieces(released, "=In the pond.", "=Gone")


def test_text_of_the_users_own(released):
    text = SYSTEM + "USER: <image>\nWhere?ASSISTANT:"
    ids = released(text=text, images=frames(1))["input_ids"]
    marked = released(text=text.replace("<image>", "<image><s>"), images=frames(1))["input_ids"]
    assert ids == marked
    wanted = pieces(released, SYSTEM + "USER: ") + released.tokenizer("\nWhere?ASSISTANT:")["input_ids"]
    assert np.ravel(ids).tolist() == wanted


def test_videos_are_marked_too(released):
    ids = np.ravel(released(text="<video>Where?", videos=[np.stack(frames(2))])["input_ids"]).tolist()
    assert ids == pieces(released, "Frame 1: ", ", Frame 2: ") + released.tokenizer("\nWhere?")["input_ids"]


def test_seconds_of_questions_about_videos(released):
    def rendered(task, count, **subject):
        messages = released.build_messages(task, count, **subject)
        return released.apply_chat_template(messages, add_generation_prompt=True)

    start = "<s>" + SYSTEM + "USER: "
    assert rendered("vqa", 2, question="Why?") == start + "1s: <image><s>; 2s: <image><s>; \nWhy?ASSISTANT:"
    assert rendered("VQA", 1, question="Why?") == start + "<image><s>Why?ASSISTANT:"
    assert rendered("chat", 1, question="Why?") == start + "<image><s>\nWhy?ASSISTANT:"


def test_answers(released):
    box = (0.129, 0.085, 0.999, 1.2)
    assert released.format_box(box) == "[13,8,100,120]"
    assert released.render_answer("sot", boxes=[box]) == "Frame 1: [13,8,100,120]."
    assert released.render_answer("video_reg", text="a black swan") == "a black swan."
    assert released.render_answer("reg", text="a black swan") == "a black swan"
    assert released.render_answer("REC", boxes=[box]) == "[13,8,100,120]"
    plain = tiny_processor()
    assert plain.render_answer("sot", boxes=[box]) == "Frame 1: [12,8,99,99]"


def test_saving_keeps_the_switch(released, tmp_path):
    released.save_pretrained(tmp_path)
    loaded = ElysiumProcessor.from_pretrained(tmp_path)
    assert (loaded.compat, loaded.box_rounding) == ("released", "round")
    assert loaded.chat_template == released.chat_template
    text = SYSTEM + "USER: <image>\nWhere?ASSISTANT:"
    assert loaded(text=text, images=frames(1))["input_ids"] == released(text=text, images=frames(1))["input_ids"]


def test_nothing_of_it_by_default():
    plain = processor_with()
    assert plain.compat is None and plain.tracking_defaults == {} and plain.box_rounding == "floor"
    messages = plain.build_messages("vqa", 2, question="Why?", answer="So.")
    text = plain.apply_chat_template(messages)
    assert text == f"<s>{SYSTEM}USER: Frame 1: <image>, Frame 2: <image>\nWhy?ASSISTANT:So.</s>"
    assert plain.tokenizer.backend_tokenizer.pre_tokenizer.prepend_scheme == "first"


def test_unknown_switch_and_unfit_tokenizer():
    with pytest.raises(ValueError, match="`compat`='old' is unknown"):
        processor_with(compat="old")
    with pytest.raises(ValueError, match="needs a Llama tokenizer"):
        ElysiumProcessor(ElysiumImageProcessor(), tiny_tokenizer(), compat="released")
