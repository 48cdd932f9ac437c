"""ElysiumImageProcessor: kinds of frames, both paths, fields."""

import numpy as np
import pytest
import torch
from PIL import Image

from processing_elysium.image_processing_elysium import CLIP_MEAN, CLIP_STD, ElysiumImageProcessor, to_rgb_array

MEAN, STD = (torch.tensor(v)[:, None, None] for v in (CLIP_MEAN, CLIP_STD))


def smooth(height: int = 40, width: int = 60) -> np.ndarray:
    """A color gradient, uint8 (H, W, 3)."""
    y, x = np.mgrid[0:height, 0:width]
    return np.stack([255 * x / width, 255 * y / height, 127 + 100 * np.sin(x / 9)], axis=-1).astype(np.uint8)


def processor(size: int = 28, **fields) -> ElysiumImageProcessor:
    return ElysiumImageProcessor(size={"height": size, "width": size}, **fields)


def by_definition(frame: np.ndarray, size: int) -> torch.Tensor:
    """Squash with Pillow, divide by 255, normalize: the three lines of the paper."""
    small = np.asarray(Image.fromarray(frame).resize((size, size), Image.Resampling.BILINEAR))
    return (torch.from_numpy(small.copy()).permute(2, 0, 1) / 255 - MEAN) / STD


def test_default_is_the_papers():
    fields = ElysiumImageProcessor()
    assert (fields.size.height, fields.size.width, fields.resample) == (336, 336, Image.Resampling.BILINEAR)


def test_squash_rescale_normalize():
    frame = smooth()
    for kind in (frame, Image.fromarray(frame), [frame], frame[None]):
        pixels = processor()(kind, return_tensors="pt")["pixel_values"]
        assert pixels.shape == (1, 3, 28, 28) and pixels.dtype == torch.float32
        torch.testing.assert_close(pixels[0], by_definition(frame, 28), atol=1e-5, rtol=0)


def test_frames_of_the_right_size_are_not_resampled():
    frames = np.random.default_rng(0).integers(0, 256, (5, 28, 28, 3), dtype=np.uint8)
    pixels = processor()(list(frames), return_tensors="pt")["pixel_values"]
    want = (torch.from_numpy(frames).permute(0, 3, 1, 2) / 255 - MEAN) / STD
    torch.testing.assert_close(pixels, want, atol=1e-5, rtol=0)


@pytest.mark.parametrize("shape", ["channels_first", "channels_last", "list", "nested"])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.bfloat16, torch.int64])
def test_tensor_path_agrees_with_pillow(shape, dtype):
    frames = np.stack([smooth(), smooth()[::-1]])
    want = processor()(list(frames), return_tensors="pt")["pixel_values"]
    tensor = torch.from_numpy(frames.copy()).permute(0, 3, 1, 2).to(dtype)
    if dtype == torch.float32:
        tensor = tensor / 255
    given = {
        "channels_first": tensor,
        "channels_last": tensor.movedim(1, -1),
        "list": list(tensor),
        "nested": [[tensor[0]], [tensor[1]]],
    }[shape]
    pixels = processor()(given, return_tensors="pt")["pixel_values"]
    assert pixels.shape == want.shape and pixels.dtype == torch.float32 and isinstance(pixels, torch.Tensor)
    assert torch.equal(pixels, want)


def test_tensors_stay_on_their_device():
    for size in (28, 30):  # as it is, and resized
        frames = torch.zeros(2, 3, size, size, dtype=torch.uint8, device="meta")
        assert processor()(frames)["pixel_values"].device.type == "meta"


GRAY = smooth()[..., 0]
SAME = [
    ("gray array", GRAY),
    ("gray with channel", GRAY[..., None]),
    ("gray channel first", GRAY[None]),
    ("gray float", GRAY / 255.0),
    ("gray float of 255", GRAY.astype(np.float32)),
    ("16 bit", GRAY.astype(np.uint16) * 257),
    ("int64", GRAY.astype(np.int64)),
    ("opaque RGBA", np.dstack([GRAY, GRAY, GRAY, np.full_like(GRAY, 255)])),
    ("gray and alpha", np.dstack([GRAY, np.full_like(GRAY, 255)])),
    ("rgb channel first", np.stack([GRAY] * 3)),
    ("PIL L", Image.fromarray(GRAY)),
    ("PIL LA", Image.fromarray(GRAY).convert("LA")),
    ("PIL RGBA", Image.fromarray(GRAY).convert("RGBA")),
    ("PIL P", Image.fromarray(GRAY).convert("P")),
    ("PIL CMYK", Image.fromarray(GRAY).convert("RGB").convert("CMYK")),
    ("PIL I;16", Image.fromarray(GRAY.astype(np.uint16) * 257)),
    ("PIL I", Image.fromarray(GRAY.astype(np.int32) * 257)),
    ("PIL F", Image.fromarray(GRAY.astype(np.float32))),
    ("torch HWC", torch.from_numpy(np.dstack([GRAY] * 3))),
    ("read-only", np.broadcast_to(GRAY[..., None], (*GRAY.shape, 3))),
]


@pytest.mark.parametrize(("kind", "frame"), SAME, ids=[kind for kind, _ in SAME])
def test_to_rgb_array(kind, frame):
    array = to_rgb_array(frame)
    assert array.dtype == np.uint8 and array.shape == (*GRAY.shape, 3)
    assert np.abs(array.astype(int) - GRAY[..., None]).max() <= 1
    assert processor()([frame, frame], return_tensors="pt")["pixel_values"].shape == (2, 3, 28, 28)


def test_bool_and_transparency():
    assert to_rgb_array(GRAY > 100).max() == 255
    assert to_rgb_array(np.full((4, 4, 4), 200, np.uint8) * np.array([1, 1, 1, 0], np.uint8)).max() == 0
    half = np.dstack([np.full((4, 4, 3), 200, np.uint8), np.full((4, 4, 1), 128, np.uint8)])
    assert to_rgb_array(half)[0, 0, 0] == 100


def test_one_by_one_and_long_frames():
    for shape in [(1, 1, 3), (1, 900, 3), (900, 1, 3)]:
        frame = np.full(shape, 77, np.uint8)
        for kind in (frame, torch.from_numpy(frame).permute(2, 0, 1)):
            pixels = processor()(kind, return_tensors="pt")["pixel_values"]
            torch.testing.assert_close(pixels[0, :, 3, 3], (torch.full((3,), 77 / 255) - MEAN[:, 0, 0]) / STD[:, 0, 0])


@pytest.mark.parametrize(
    ("images", "options", "words"),
    [
        ([], {}, "`images` is empty"),
        (np.zeros((0, 5, 3), np.uint8), {}, "at least one pixel"),
        (np.zeros((5, 7, 9), np.uint8), {}, "1 to 4 channels"),
        (np.zeros(5, np.uint8), {}, "of shape"),
        (np.full((4, 4, 3), np.nan), {}, "without NaN"),
        (np.full((4, 4, 3), -1.0), {}, r"\[-1, -1\]"),
        (torch.full((1, 3, 4, 4), 300.0), {}, r"\[300, 300\]"),
        (smooth(), {"do_center_crop": True, "crop_size": 20}, "`do_center_crop`=True is not supported"),
        (smooth(), {"do_pad": True}, "`do_pad`"),
        (smooth(), {"data_format": "channels_last"}, "channels first"),
        (smooth(), {"size": {"shortest_edge": 28}}, "'height' and 'width'"),
        (torch.zeros(1, 3, 9, 9, dtype=torch.uint8), {"resample": 0}, "no tensor path"),
    ],
)
def test_refuses(images, options, words):
    with pytest.raises(ValueError, match=words):
        processor()(images, **options)


def test_unknown_options_are_refused():
    with pytest.raises(TypeError, match="do_resise"):
        processor()(smooth(), do_resise=False)


def test_fields_switch_the_steps():
    frame = smooth(28, 28)
    raw = processor(do_rescale=False, do_normalize=False)(frame, return_tensors="np")["pixel_values"]
    np.testing.assert_array_equal(raw[0], frame.transpose(2, 0, 1))
    other = processor(image_mean=[0.5] * 3, image_std=[0.5] * 3)(frame, return_tensors="np")["pixel_values"]
    np.testing.assert_allclose(other[0], frame.transpose(2, 0, 1) / 127.5 - 1, atol=1e-5)
    sizes = processor(do_resize=False)([smooth(20, 20), smooth(30, 30)])["pixel_values"]
    assert [pixels.shape for pixels in sizes] == [(3, 20, 20), (3, 30, 30)]
