"""The fast code equals the plain reference on random inputs."""

import re

import numpy as np
import pytest
import torch

from modeling_elysium.token_compression import TSelector
from tests.modeling import reference
from tests.modeling.tiny_models import IMAGE_TOKEN_ID, NUM_KEPT, tiny_config, tiny_frames, tiny_model, tiny_prompt
from tests.tracking.oracle import PROCESSOR, boxes_of, question_of, video
from tracking_elysium.exchange import ClipAnswer
from tracking_elysium.options import TrackingOptions
from tracking_elysium.queries import ObjectQuery
from tracking_elysium.scheduling import track_videos
from tracking_elysium.session import TrackingSession


@pytest.mark.parametrize("seed", range(5))
def test_selection(seed):
    torch.manual_seed(seed)
    selector = TSelector(tiny_config())
    for parameter in selector.parameters():
        torch.nn.init.normal_(parameter)
    features = torch.randn(3, 16, 32)
    tokens, kept = selector(features)
    wanted_tokens, wanted_kept = reference.select(
        features.numpy(),
        selector.pre_proj.weight[0].tolist(),
        selector.pre_proj.bias.item(),
        selector.trans_weight.tolist(),
        selector.trans_bias.tolist(),
        NUM_KEPT,
    )
    assert kept.tolist() == wanted_kept.tolist()
    np.testing.assert_array_equal(tokens.detach().numpy(), wanted_tokens)


def test_ties_go_to_the_lower_index():
    selector = TSelector(tiny_config())
    with torch.no_grad():
        for parameter in selector.parameters():
            parameter.zero_()
    _, wanted = reference.select(np.ones((1, 16, 32)), [0.0] * 32, 0.0, np.zeros((16, 16)), [0.0] * 16, NUM_KEPT)
    assert selector(torch.ones(1, 16, 32))[1].tolist() == wanted.tolist() == [list(range(NUM_KEPT))]


@pytest.mark.parametrize("seed", range(3))
def test_projection_merging_and_loss(seed):
    model, pixels = tiny_model(seed), tiny_frames(3, seed)
    ids = torch.tensor([tiny_prompt(5, 0, 7, 0, 9), [3] * NUM_KEPT + tiny_prompt(8, 0, 4, 11)])
    inner, projector = model.model, model.model.multi_modal_projector
    with torch.no_grad():
        features = inner.get_image_features(pixels)
        kept, _ = inner.selector(features.last_hidden_state[:, -16:])
        layers = [t.numpy().astype(np.float64) for t in projector.parameters()]
        visual = reference.project(kept.numpy().astype(np.float64), *layers)
        np.testing.assert_allclose(torch.stack(features.pooler_output), visual, atol=1e-5)
        merged, _ = inner._merge(ids, None, features, is_prefill=True)
        embedding = inner.get_input_embeddings().weight.numpy()
        np.testing.assert_allclose(merged, reference.merge(ids, embedding, visual, IMAGE_TOKEN_ID), atol=1e-5)
        labels = ids.masked_fill((ids == IMAGE_TOKEN_ID) | (torch.rand(ids.shape) < 0.3), -100)
        labels[:, -1] = ids[:, -1]
        output = model(input_ids=ids, pixel_values=pixels, labels=labels)
    wanted = reference.loss(output.logits.double().tolist(), labels.tolist())
    assert output.loss.item() == pytest.approx(wanted, abs=1e-5)


@pytest.mark.parametrize("seed", range(12))
def test_chaining_of_clips(seed):
    rng = np.random.default_rng(seed)
    num_frames, clip_len = int(rng.integers(1, 46)), int(rng.integers(2, 10))
    options = {
        "clip_len": clip_len,
        "overlap": int(rng.integers(0, clip_len)),
        "single_pass_up_to": int(rng.choice([0, 12, 32])),
    }
    missing = {int(frame) for frame in np.flatnonzero(rng.random(num_frames) < 0.25)}

    def cells(start, stop, box):
        """What the model says: the box it was given, one cell further in every frame; nothing in some frames."""
        x1, y1, x2, y2 = box
        steps = ((frame, (frame - start) % 3) for frame in range(start, stop) if frame not in missing)
        return {frame: ((x1 + step) % 50, y1, 60 + (x2 + step) % 30, y2) for frame, step in steps}

    def answer(requests):
        texts = []
        for request in requests:
            box = tuple(map(int, re.search(r"\[(\d+),(\d+),(\d+),(\d+)\]", question_of(request)).groups()))
            start = request.frames[0].index
            said = cells(start, start + len(request.frames), box)
            texts.append(", ".join(f"Frame {f - start + 1}: [{','.join(map(str, b))}]" for f, b in said.items()))
        return [ClipAnswer(text) for text in texts]

    first = (10, 20, 70, 80)
    query = ObjectQuery(0, "object", box=tuple((cell + 0.5) / 100 for cell in first))
    session = TrackingSession(PROCESSOR.open_video(video(num_frames)), PROCESSOR, [query], TrackingOptions(**options))
    boxes = boxes_of([result for _, result in track_videos([session], answer)])
    wanted = reference.chain(num_frames, first, cells, **options)
    assert {frame: tuple(np.floor(box * 100 + 1e-6)) for frame, box in boxes.items()} == wanted
