"""ElysiumProcessor: text layout, masks, padding, images and videos, boxes back."""

import random

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import BatchFeature

from processing_elysium import ElysiumImageProcessor, ElysiumProcessor, Task, build_messages, render_answer
from tests.processing.tiny_processor import tiny_processor, tiny_tokenizer

VICUNA = (
    "A chat between a curious user and an artificial intelligence assistant. The assistant gives helpful, detailed, "
    "and polite answers to the user's questions."
)
BOX = [0.1, 0.2, 0.3, 0.4]
K = 4


@pytest.fixture(scope="module")
def processor() -> ElysiumProcessor:
    return tiny_processor(num_image_tokens=K)


def frames(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, 28, 28, 3), dtype=np.uint8)


def filled(messages: list[dict], images) -> list[dict]:
    """The messages with the images put into their image parts."""
    images = iter(images)
    return [
        {
            **m,
            "content": [{**part, "image": next(images)} if part["type"] == "image" else part for part in m["content"]],
        }
        for m in messages
    ]


def text_part(text: str) -> dict:
    return {"type": "text", "text": text}


IMAGE = {"type": "image"}
LAYOUTS = [
    # messages, generation prompt, text after "<s>"
    (
        [{"role": "user", "content": [IMAGE, text_part("Where?")]}],
        True,
        VICUNA + " USER: <image>\nWhere?ASSISTANT:",
    ),
    (
        [{"role": "user", "content": [IMAGE, IMAGE, IMAGE, text_part("Where?")]}],
        True,
        VICUNA + " USER: Frame 1: <image>, Frame 2: <image>, Frame 3: <image>\nWhere?ASSISTANT:",
    ),
    (
        [{"role": "user", "content": [text_part("Hello")]}, {"role": "assistant", "content": [text_part("Hi")]}],
        False,
        VICUNA + " USER: HelloASSISTANT:Hi</s>",
    ),
    (
        [
            {"role": "user", "content": "Hello"},
            {"role": "assistant", "content": "Hi"},
            {"role": "user", "content": "?"},
        ],
        True,
        VICUNA + " USER: HelloASSISTANT:Hi</s>USER: ?ASSISTANT:",
    ),
    (
        [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello"}],
        True,
        "Be brief. USER: HelloASSISTANT:",
    ),
    (
        [{"role": "system", "content": [text_part("")]}, {"role": "user", "content": "Hello"}],
        True,
        "USER: HelloASSISTANT:",
    ),
    (
        [{"role": "user", "content": [text_part("Before"), IMAGE, text_part("after")]}],
        False,
        VICUNA + " USER: Before\n<image>\nafter",
    ),
    (
        [  # frames are numbered within their message
            {"role": "user", "content": [IMAGE, IMAGE, text_part("a")]},
            {"role": "assistant", "content": "b"},
            {"role": "user", "content": [IMAGE, IMAGE, text_part("c")]},
        ],
        True,
        VICUNA + " USER: Frame 1: <image>, Frame 2: <image>\naASSISTANT:b</s>"
        "USER: Frame 1: <image>, Frame 2: <image>\ncASSISTANT:",
    ),
    (
        [{"role": "user", "content": [{"type": "video"}, text_part("What?")]}],
        True,
        VICUNA + " USER: <video>What?ASSISTANT:",
    ),
]


@pytest.mark.parametrize(("messages", "generation", "expected"), LAYOUTS, ids=range(len(LAYOUTS)))
def test_text_layout(processor, messages, generation, expected):
    assert processor.apply_chat_template(messages, add_generation_prompt=generation) == "<s>" + expected


@pytest.mark.parametrize(
    ("messages", "words"),
    [
        ([{"role": "tool", "content": "x"}], "Role tool is unknown"),
        ([{"role": "user", "content": [{"type": "audio"}]}], "type audio is unknown"),
    ],
)
def test_template_refuses(processor, messages, words):
    with pytest.raises(Exception, match=words):
        processor.apply_chat_template(messages)


def batch_of_conversations() -> tuple[list, list[str]]:
    """Three conversations of different lengths with answers, and the answers."""
    answers = ["Frame 1: [1,2,3,4], Frame 2: [5,6,7,8]", "[10,20,30,40]", "Hi"]
    images = frames(3)
    return [
        filled(build_messages("sot", 2, box=BOX, answer=answers[0]), images[:2]),
        filled(build_messages("rec", 1, expression="the red ring", answer=answers[1]), images[2:]),
        build_messages("chat", 0, question="Hello", answer=answers[2], system=""),
    ], answers


@pytest.mark.parametrize("side", [None, "left", "right"])
def test_batch_masks_and_padding(processor, side):
    conversations, answers = batch_of_conversations()
    batch = processor.apply_chat_template(
        conversations,
        tokenize=True,
        return_dict=True,
        return_assistant_tokens_mask=True,
        return_tensors="pt",
        processor_kwargs={"padding": True, **({} if side is None else {"padding_side": side})},
    )
    assert set(batch) == {"input_ids", "attention_mask", "assistant_masks", "pixel_values"}
    assert batch["pixel_values"].shape == (3, 3, 28, 28)
    assert (batch["input_ids"] == processor.image_token_id).sum(-1).tolist() == [2 * K, K, 0]
    attended = batch["attention_mask"].bool()
    for row, answer in enumerate(answers):
        ids, mask = batch["input_ids"][row], batch["assistant_masks"][row].bool()
        assert processor.tokenizer.decode(ids[mask]) == answer + "</s>"
        assert ids[attended[row]][0] == processor.tokenizer.bos_token_id
        assert (ids == processor.tokenizer.bos_token_id).sum() == 1
    padded = attended[1]
    assert not padded.all() and padded[-1 if side != "right" else 0] and not padded[0 if side != "right" else -1]


def test_every_turn_is_in_the_mask(processor):
    messages = [
        {"role": "user", "content": [{"type": "image", "image": frames(1)[0]}, text_part("a?")]},
        {"role": "assistant", "content": "first"},
        {"role": "user", "content": "b?"},
        {"role": "assistant", "content": "second"},
    ]
    out = processor.apply_chat_template(messages, tokenize=True, return_dict=True, return_assistant_tokens_mask=True)
    ids = [i for i, marked in zip(out["input_ids"][0], out["assistant_masks"][0], strict=True) if marked]
    assert processor.tokenizer.decode(ids) == "first</s>second</s>"


def test_padding_is_left_whatever_the_tokenizer_says():
    image_processor = ElysiumImageProcessor(size={"height": 28, "width": 28})
    processor = ElysiumProcessor(image_processor, tiny_tokenizer("right"), num_image_tokens=K)
    out = processor(text=["a", "abc"], padding=True, return_tensors="pt")
    assert out["attention_mask"].tolist()[0] == [0, 0, 1] and processor.tokenizer.padding_side == "left"


def test_call_with_text_and_images(processor):
    images = [Image.new("RGB", (50, 20)), frames(1)[0]]
    out = processor(text="<image>, <image>\nhi", images=images, return_tensors="pt")
    assert isinstance(out, BatchFeature) and out["pixel_values"].shape == (2, 3, 28, 28)
    assert (out["input_ids"] == processor.image_token_id).sum() == 2 * K
    only_text = processor(text=["a", "b"])
    assert set(only_text) == {"input_ids", "attention_mask"}
    assert set(processor(images=images)) == {"pixel_values"}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"text": "<image>"}, "no images were passed"),
        ({"text": "<image>", "images": list(frames(2))}, "Found total 1 <image> tokens and 2 images"),
        ({"text": "hi <video>"}, "no videos were passed"),
        (
            {"text": "<image><video>", "images": frames(1), "videos": frames(2)},
            "`images` and `videos` were passed together",
        ),
        ({"text": "<video>", "videos": frames(2), "num_frames": 2, "fps": 1.0}, "exclude each other"),
        ({"text": "<video>", "videos": "/does/not/exist.mp4"}, "does not exist"),
        (
            {"text": "<image>", "images": frames(1), "truncation": True, "max_length": 3},
            "Mismatch in `image` token count",
        ),
        ({}, "at least one input"),
    ],
)
def test_call_refuses(processor, arguments, words):
    with pytest.raises(ValueError, match=words):
        processor(**arguments)


VIDEO_FORMS = {
    "array": frames(5),
    "list": [frames(5)],
    "batched array": frames(5)[None],
    "frames": list(frames(5)),
    "PIL": [Image.fromarray(frame) for frame in frames(5)],
    "nested": [[frames(5)], []],
    "tensor": torch.from_numpy(frames(5)).permute(0, 3, 1, 2),
}


@pytest.mark.parametrize("form", VIDEO_FORMS)
def test_video_is_written_as_numbered_frames(processor, form):
    out = processor(text=["<video>What?"], videos=VIDEO_FORMS[form], num_frames=2, return_tensors="pt")
    image = "<image>" * K
    assert processor.tokenizer.decode(out["input_ids"][0]) == f"Frame 1: {image}, Frame 2: {image}\nWhat?"
    direct = processor.image_processor(list(frames(5)[[1, 3]]), return_tensors="pt")["pixel_values"]
    torch.testing.assert_close(out["pixel_values"], direct)


def test_videos_equal_the_same_frames_as_images(processor):
    """A video part and as many image parts give the same tensors, mask included."""
    video = frames(3)
    question, answer = text_part("What?"), {"role": "assistant", "content": [text_part("A dog")]}
    as_video = [{"role": "user", "content": [{"type": "video", "video": video}, question]}, answer]
    as_images = [{"role": "user", "content": [*({"type": "image", "image": f} for f in video), question]}, answer]
    options = {
        "tokenize": True,
        "return_dict": True,
        "return_assistant_tokens_mask": True,
        "return_tensors": "pt",
        "processor_kwargs": {"return_mm_token_type_ids": True},
    }
    first = processor.apply_chat_template([as_video, as_video], **options)
    second = processor.apply_chat_template([as_images, as_images], **options)
    assert set(first) == set(second)
    for key in first:
        torch.testing.assert_close(first[key], second[key], msg=key)
    assert (first["mm_token_type_ids"] == (first["input_ids"] == processor.image_token_id)).all()


def test_expand_images_is_what_call_does(processor):
    text = "a<image>, <image>b"
    ids = processor(text=text, images=list(frames(2)))["input_ids"][0]
    assert processor.tokenizer.decode(ids) == processor.expand_images(text)


def test_replacement_offsets_and_counts_for_serving(processor):
    out = processor(text="a<image>b", images=frames(1), return_text_replacement_offsets=True)
    (offset,) = out["text_replacement_offsets"][0]
    assert offset["span"] == (1, 8) and offset["replacement"] == "<image>" * K and offset["new_span"] == (1, 1 + 7 * K)
    counts = processor._get_num_multimodal_tokens(image_sizes=[(480, 640), (10, 10)])
    assert counts["num_image_tokens"] == [K, K] and counts["num_image_patches"] == [1, 1]
    assert processor.image_token_ids == [processor.image_token_id]
    assert "image" not in processor._get_num_multimodal_tokens()


@pytest.mark.parametrize("task", Task)
def test_encode_tracking_of_every_task(processor, task):
    subject = {"box": BOX} if task in (Task.SOT, Task.VIDEO_REG, Task.REG) else None
    subject = subject or {"question" if task in (Task.VQA, Task.CHAT) else "expression": "the dog"}
    count = 1 if task in (Task.REC, Task.REG) else 3
    inputs = processor.encode_tracking(task, list(frames(count)), **subject)
    text = processor.tokenizer.decode(inputs["input_ids"][0])
    assert text.startswith("<s>A chat") and text.endswith("ASSISTANT:") and text.count("<s>") == 1
    assert inputs["pixel_values"].shape == (count, 3, 28, 28)
    assert (inputs["input_ids"] == processor.image_token_id).sum() == count * K


def test_encode_a_batch_of_unequal_clips(processor):
    clips = [list(frames(3)), list(frames(1)), []]
    messages = [
        processor.build_messages("rsot", 3, expression="the dog"),
        processor.build_messages("rec", 1, expression="the dog"),
        processor.build_messages("chat", 0, question="Hi"),
    ]
    inputs = processor.encode(messages, clips)
    assert inputs["pixel_values"].shape == (4, 3, 28, 28) and (inputs["attention_mask"][:, -1] == 1).all()
    for row, (message, clip) in enumerate(zip(messages, clips, strict=True)):
        single = processor.encode([message], [clip])
        attended = inputs["attention_mask"][row].bool()
        torch.testing.assert_close(inputs["input_ids"][row][attended], single["input_ids"][0])
    with pytest.raises(ValueError, match="conversation 0 has 3 image part"):
        processor.encode(messages[:1], [clips[1]])
    with pytest.raises(ValueError, match="2 entries for 1 conversations"):
        processor.encode(messages[:1], clips[:2])


@pytest.mark.parametrize("name", ["expression", "prompt", "answer", "system"])
@pytest.mark.parametrize("token", ["<image>", "<video>"])
def test_placeholders_in_user_text_are_refused(processor, name, token):
    options = {"expression": "the dog", name: f"the {token} " + ("{expression}" if name == "prompt" else "")}
    with pytest.raises(ValueError, match=f"`{name}` contains '{token}'"):
        processor.build_messages("rsot", 2, **options)


def test_training_text_round_trips_to_boxes(processor):
    rng = np.random.default_rng(3)
    for _ in range(20):
        corners = np.sort(rng.random((6, 2, 2)), axis=1)
        boxes, valid = corners.reshape(6, 4), rng.random(6) > 0.3
        if not valid.any():
            continue
        answer = render_answer("sot", boxes, valid)
        messages = build_messages("sot", 6, box=boxes[0], answer=answer, rng=random.Random(0))
        text = processor.apply_chat_template(messages).split("ASSISTANT:")[1].removesuffix("</s>")
        parsed = processor.post_process_boxes(text, 6)
        assert parsed.valid.tolist() == valid.tolist()
        assert np.abs(parsed.boxes[valid] - boxes[valid]).max() <= 0.01


def test_post_process_boxes_in_pixels(processor):
    text = "Frame 1: [0,0,49,99], Frame 2: [10,20,30,40]"
    parsed = processor.post_process_boxes(text, 3, target_sizes=(200, 400))
    np.testing.assert_allclose(parsed.boxes[0], [2, 1, 198, 199])
    assert parsed.valid.tolist() == [True, True, False]
    per_frame = processor.post_process_boxes(text, 2, target_sizes=[(200, 400), (100, 100)])
    np.testing.assert_allclose(per_frame.boxes[1], [10.5, 20.5, 30.5, 40.5])
    with pytest.raises(ValueError, match="`target_sizes`"):
        processor.post_process_boxes(text, 3, target_sizes=[(200, 400)] * 2)


def test_box_rounding_is_used_both_ways():
    rounded = tiny_processor(box_rounding="round")
    assert rounded.format_box([0, 0, 1, 1]) == "[0,0,100,100]"
    assert "[0,0,100,100]" in rounded.build_messages("sot", 1, box=[0, 0, 1, 1])[0]["content"][-1]["text"]
    np.testing.assert_allclose(rounded.post_process_boxes("[0,0,50,100]").boxes[0], [0, 0, 0.5, 1])


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"num_image_tokens": 0}, "`num_image_tokens`=0 must be a positive integer"),
        ({"num_image_tokens": 2.5}, "`num_image_tokens`"),
        ({"num_image_tokens": True}, "`num_image_tokens`"),
        ({"box_rounding": "ceil"}, "`box_rounding`='ceil' is unknown"),
        ({"image_token": "<picture>"}, "`image_token`='<picture>' is 9 tokens"),
    ],
)
def test_fields_are_checked(fields, words):
    with pytest.raises(ValueError, match=words):
        tiny_processor(**fields)


def test_unknown_fields_are_refused():
    with pytest.raises(TypeError, match="num_image_token"):
        tiny_processor(num_image_token=3)


def test_another_image_token():
    tokenizer = tiny_tokenizer()
    tokenizer.add_tokens(["<pic>"], special_tokens=True)
    image_processor = ElysiumImageProcessor(size={"height": 28, "width": 28})
    other = ElysiumProcessor(image_processor, tokenizer, num_image_tokens=K, image_token="<pic>")
    inputs = other.encode_tracking("rec", list(frames(1)), expression="the dog")
    assert (inputs["input_ids"] == tokenizer.convert_tokens_to_ids("<pic>")).sum() == K
    with pytest.raises(ValueError, match="'<pic>', which is reserved"):
        other.build_messages("rec", 1, expression="a <pic>")
