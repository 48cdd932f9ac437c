"""Boxes among tokens, and the loss on them, against arithmetic by hand and a slow twin."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from processing_elysium.boxes import parse_boxes
from tests.tracking.tokenizers_of_all_kinds import KINDS, processor_of
from train.collator import IGNORED, TASKS, ConversationCollator
from train.data import ConversationSource
from train.feed_config import LossConfig
from train.miniature.build import build_tokenizer
from train.objective import BoxPlaces, NumberTokens, answer_loss, pairwise_iou

from .tiny_recipe import BATCH, stage

ANSWER = "Frame 1: [7,20,31,99], Frame 12: [0,0,5,10], or 3,4 and [1,2,3] and [1,2,3,4."


def tokens_of(tokenizer, rounding="floor"):
    numbers = NumberTokens.of(tokenizer, rounding)
    ids = np.array(tokenizer.encode(ANSWER, add_special_tokens=False))
    return numbers, ids, numbers.locate(ids, np.ones(len(ids), bool))


@pytest.mark.parametrize("tokenizer", [build_tokenizer(1536), processor_of("characters").tokenizer])
def test_boxes_are_found_and_read(tokenizer):
    """Labels of frames, loose numbers, three numbers and a box that is cut are none."""
    numbers, ids, found = tokens_of(tokenizer)
    assert found.places.shape == (2, 4, numbers.width)
    boxes = numbers.boxes_of(torch.from_numpy(ids[found.places]), torch.from_numpy(found.scales))
    expected = (torch.tensor([[7, 20, 31, 99], [0, 0, 5, 10]]) + 0.5) / 100
    torch.testing.assert_close(boxes.float(), expected)
    np.testing.assert_allclose(boxes.numpy(), parse_boxes(ANSWER, 12).boxes[[0, 11]], atol=1e-6)


def test_rounded_boxes_have_no_half_cell():
    numbers, ids, found = tokens_of(processor_of("characters").tokenizer, "round")
    boxes = numbers.boxes_of(torch.from_numpy(ids[found.places]), torch.from_numpy(found.scales))
    torch.testing.assert_close(boxes[0].float(), torch.tensor([0.07, 0.2, 0.31, 0.99]))


@pytest.mark.parametrize("kind", KINDS)
def test_places_of_a_batch_point_at_its_boxes(kind):
    """Over conversations of several lengths: what stands at the places is what the answers say."""
    processor = processor_of(kind)
    source = ConversationSource(stage(num_frames=(1, 4)), BATCH, writer=processor)
    samples = [source[item] for item in (0, 1, BATCH)]
    collator = ConversationCollator(processor)
    batch = collator(samples)
    labels = batch["labels"][batch["labels"] != IGNORED]
    assert [TASKS[i] for i in batch["task_ids"].unique_consecutive()] == _collapsed(samples)
    if collator.numbers is None:
        assert "box_places" not in batch
        return
    texts = [m["content"][0]["text"] for s in samples for m in s["messages"] if m["role"] == "assistant"]
    expected = np.concatenate(
        [p.boxes[p.valid] for p in (parse_boxes(t, rounding=processor.box_rounding) for t in texts)]
    )
    boxes = collator.numbers.boxes_of(labels[batch["box_places"]], batch["box_scales"])
    # A box within one cell is read as the middle third of it.
    np.testing.assert_allclose(boxes.numpy(), expected, atol=0.0051)


def _collapsed(samples):
    names = [task for sample in samples for task in sample["tasks"]]
    return [name for i, name in enumerate(names) if i == 0 or names[i - 1] != name]


def random_batch(tokenizer, seed=0):
    numbers, ids, found = tokens_of(tokenizer)
    logits = torch.randn(len(ids), len(tokenizer), generator=torch.Generator().manual_seed(seed), requires_grad=True)
    places, scales = torch.from_numpy(found.places), torch.from_numpy(found.scales).float()
    return numbers, logits, torch.from_numpy(ids), places, scales


def test_the_plain_loss_is_cross_entropy():
    numbers, logits, labels, places, scales = random_batch(build_tokenizer(1536))
    found = answer_loss(logits, labels, LossConfig(), numbers, places, scales)
    torch.testing.assert_close(found.total, functional.cross_entropy(logits, labels, reduction="sum"))
    assert found.iou.shape == (2,)


@pytest.mark.parametrize("tokenizer", [build_tokenizer(1536), processor_of("characters").tokenizer])
def test_weights_and_overlap_by_hand(tokenizer):
    """The slow twin: token by token, number by number."""
    numbers, logits, labels, places, scales = random_batch(tokenizer)
    settings = LossConfig(number_weight=3.0, iou_weight=0.5)
    found = answer_loss(logits, labels, settings, numbers, places, scales)
    total = torch.zeros(())
    in_boxes = set(places[scales > 0].tolist())
    assert len(in_boxes) == (8 if numbers.width == 1 else 12)
    for place, label in enumerate(labels.tolist()):
        entropy = -logits[place].log_softmax(-1)[label]
        total = total + entropy * (3.0 if place in in_boxes else 1.0)
    for box in range(2):
        corners, true, count = [], [], 0
        for column in range(4):
            mean = value = 0.0
            for place, scale in zip(places[box, column].tolist(), scales[box, column].tolist(), strict=True):
                if scale:
                    share = logits[place][numbers.ids.tolist()].softmax(-1)
                    mean = mean + scale * sum(p * v for p, v in zip(share, numbers.values.tolist(), strict=True))
                    value += scale * int(tokenizer.decode([int(labels[place])]))
                    count += 1
            corners.append((mean + 0.5) / 100)
            true.append((value + 0.5) / 100)
        width = torch.clamp(min(corners[2], torch.tensor(true[2])) - max(corners[0], torch.tensor(true[0])), min=0)
        height = torch.clamp(min(corners[3], torch.tensor(true[3])) - max(corners[1], torch.tensor(true[1])), min=0)
        area = lambda b: max(float(b[2] - b[0]), 0) * max(float(b[3] - b[1]), 0)  # noqa: E731
        overlap = width * height
        iou = overlap / (area([float(c.detach()) for c in corners]) + area(true) - overlap)
        total = total + 0.5 * count * (1 - iou)
    torch.testing.assert_close(found.total, total, atol=1e-3, rtol=1e-4)


def test_overlap_teaches_where_the_box_is():
    """A few steps on the overlap alone bring a mean box that meets the true one to it."""
    numbers, logits, labels, places, scales = random_batch(build_tokenizer(1536))
    true = numbers.boxes_of(labels[places], scales)[:1]
    logits = torch.zeros_like(logits)
    for column, number in enumerate((20, 30, 80, 90)):
        logits[places[0, column, 0], numbers.ids[number]] = 6.0
    logits.requires_grad_()
    optimizer = torch.optim.Adam([logits], lr=0.3)
    first = None
    for _ in range(100):
        optimizer.zero_grad()
        overlap = pairwise_iou(numbers.mean_boxes(logits[places[:1]], scales[:1]), true)
        first = overlap.item() if first is None else first
        (1 - overlap).sum().backward()
        optimizer.step()
    assert 0 < first < 0.5 and overlap.item() > 0.9


def test_iou_of_wrong_boxes_is_zero():
    boxes = torch.tensor([[0.1, 0.1, 0.3, 0.3], [torch.nan] * 4, [0.5, 0.5, 0.2, 0.2], [0.2, 0.1, 0.4, 0.3]])
    true = torch.tensor([0.1, 0.1, 0.3, 0.3]).expand(4, 4)
    torch.testing.assert_close(pairwise_iou(boxes, true), torch.tensor([1.0, 0.0, 0.0, 1 / 3]))


def test_a_wrong_token_is_no_box():
    numbers, _, labels, places, scales = random_batch(build_tokenizer(1536))
    labels = labels.clone()
    labels[places[0, 2, 0]] = 3
    boxes = numbers.boxes_of(labels[places], scales)
    assert boxes[0].isnan().any() and not boxes[1].isnan().any()


def test_conversations_without_boxes():
    numbers = NumberTokens.of(build_tokenizer(1536))
    none = BoxPlaces.joined([numbers.locate(np.array([5, 6]), np.array([True, True]))], [2], numbers.width)
    assert none.places.shape == (0, 4, 1) and none.places.dtype == np.int64
    logits, labels = torch.randn(2, 1536), torch.tensor([5, 6])
    found = answer_loss(
        logits,
        labels,
        LossConfig(iou_weight=1.0),
        numbers,
        torch.from_numpy(none.places),
        torch.from_numpy(none.scales),
    )
    torch.testing.assert_close(found.total, functional.cross_entropy(logits, labels, reduction="sum"))
    assert found.iou is None
