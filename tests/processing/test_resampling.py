"""Frames resized by integer tensors, as on a GPU, are Pillow's to the last bit."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from processing_elysium import resampling
from processing_elysium.resampling import by_pillow, in_order, resample

SIDES = st.integers(1, 120)


def pictures(seed, height, width, count=2):
    """Noise, and noise of black and white only, which is where cubic weights overshoot."""
    frames = np.random.default_rng(seed).integers(0, 256, (count, 3, height, width), dtype=np.uint8)
    frames[1:] = np.where(frames[1:] > 127, 255, 0)
    return torch.from_numpy(frames)


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 9), SIDES, SIDES, SIDES, SIDES, st.sampled_from([2, 3]))
def test_any_size_to_any_size(seed, height, width, new_height, new_width, kind):
    frames, size = pictures(seed, height, width), (new_height, new_width)
    axes = resampling._order((height, width), size, kind)
    assert torch.equal(in_order(frames, size, kind, axes), by_pillow(frames, size, kind))


@pytest.mark.parametrize("kind", [2, 3])
@pytest.mark.parametrize("shape", [(1080, 1920), (1920, 1080), (336, 640), (100, 100)])
def test_sizes_of_videos(shape, kind):
    frames = pictures(0, *shape)
    axes = resampling._order(shape, (336, 336), kind)
    whole = [np.asarray(Image.fromarray(frame.permute(1, 2, 0).numpy()).resize((336, 336), kind)) for frame in frames]
    found = in_order(frames, (336, 336), kind, axes).permute(0, 2, 3, 1).numpy()
    assert np.array_equal(found, np.stack(whole))


def test_a_pillow_that_resizes_otherwise_is_still_followed(monkeypatch):
    """Where neither order of the passes gives what Pillow gives, Pillow does the work."""
    monkeypatch.setattr(resampling, "_order", lambda *sizes: None)
    on_a_device = torch.zeros(1, 3, 8, 8, dtype=torch.uint8, device="meta")
    called = []
    monkeypatch.setattr(resampling, "by_pillow", lambda frames, size, kind: called.append(size))
    resample(on_a_device, (4, 4), 2)
    assert called == [(4, 4)]


def test_unknown_filter():
    with pytest.raises(ValueError, match=r"`resample`=1 has no tensor path; use one of 2 \(bilinear\)"):
        resample(torch.zeros(1, 3, 9, 9, dtype=torch.uint8), (4, 4), 1)
