"""`masks=` and `visualize=` of the pipeline: each frame gets what belongs to it, whichever way it was read."""

import warnings

import av
import numpy as np
import pytest
from PIL import Image

from tracking_elysium.extras import FILES, Extras, LastFrames
from tracking_elysium.kept_tokens import EvenlySpread, KeptTokens, draw_kept
from tracking_elysium.masks import BoxSegmenter
from tracking_elysium.plots import plot_paths, plot_scores
from tracking_elysium.visualize import COLORS, draw_objects

from .media import write_mp4
from .oracle import video
from .test_masks import tiny

BOX = (2, 6, 12, 15)


class Reading(BoxSegmenter):
    """Notes the frames it is shown (their number is in a pixel) and fills the boxes."""

    def __init__(self):
        self.seen = []

    def __call__(self, frame, boxes):
        self.seen.append(int(frame[0, 0, 0]))
        masks = np.zeros((len(boxes), *frame.shape[:2]), bool)
        for mask, (x1, y1, x2, y2) in zip(masks, np.round(boxes).astype(int), strict=True):
            mask[y1:y2, x1:x2] = True
        return masks


def in_box(result):
    (item,) = result["objects"]
    ys, xs = np.nonzero(item["mask"])
    box = np.round([item["box"][side] for side in ("xmin", "ymin", "xmax", "ymax")])
    return (np.array([xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]) == box).all()


FORWARD = ({}, {"single_pass_up_to": 0}, {"frame_by_frame": True}, {"stream": True})
OTHER_WAYS = ({"direction": "both", "start_frame": 20}, {"direction": "backward", "start_frame": 39})


@pytest.mark.parametrize(
    "options, kind",
    # an iterator is read forward
    [(options, kind) for options in FORWARD for kind in ("list", "iterator")] + [(way, "list") for way in OTHER_WAYS],
    ids=str,
)
def test_every_frame_is_segmented_by_its_own_box(pipe, oracle, options, kind):
    frames = video(40)
    segmenter = Reading()
    results = list(pipe(iter(frames) if kind == "iterator" else frames, box=BOX, masks=segmenter, **options))
    assert len(results) == 40 and all(map(in_box, results))
    assert sorted(segmenter.seen) == list(range(40))
    order = [result["frame"] for result in results]
    assert options.get("direction") or (segmenter.seen == order and order == list(range(40)))


def test_masks_of_a_batch_and_pictures_beside_them(pipe, oracle):
    segmenter = Reading()
    batch = pipe([video(5), video(9, seed=1)], box=BOX, masks=segmenter, visualize=True)
    assert [len(results) for results in batch] == [5, 9] and all(in_box(one) for results in batch for one in results)
    for results, frames in zip(batch, (video(5), video(9, seed=1)), strict=True):
        for result, frame in zip(results, frames, strict=True):
            seconds = result["timestamp"]
            caption = str(result["frame"]) if seconds is None else f"{seconds:.2f} s"
            assert (result["picture"] == draw_objects(frame, result["objects"], caption=caption)).all()


def test_results_are_the_same_without(pipe, tmp_path):
    plain = pipe(video(12), box=BOX, single_pass_up_to=0)
    assert pipe(video(12), box=BOX, single_pass_up_to=0, visualize=tmp_path / "new") == plain


def test_a_named_segmenter_is_loaded_once(pipe, oracle, tmp_path, monkeypatch):
    tiny("Sam2").save_pretrained(tmp_path)
    results = pipe(video(3), box=BOX, masks=tmp_path)
    assert [result["objects"][0]["mask"].shape for result in results] == [(40, 60)] * 3
    monkeypatch.setattr(BoxSegmenter, "from_pretrained", None)
    assert len(pipe(video(3), box=BOX, masks=str(tmp_path))) == 3
    monkeypatch.setattr(pipe, "segmenter", None)


@pytest.mark.parametrize("decoding", ["drafted", "plain"])
@pytest.mark.parametrize("direction", ["forward", "backward"])
def test_a_folder_holds_video_sheet_plots_and_kept_tokens(pipe, tmp_path, decoding, direction):
    folder, start = tmp_path / "deep" / "pictures", 0 if direction == "forward" else 9
    results = pipe(video(10), box=BOX, visualize=folder, decoding=decoding, direction=direction, start_frame=start)
    assert "picture" not in results[0]
    assert sorted(path.name for path in folder.iterdir()) == sorted(FILES)  # no temporary one is left
    with av.open(str(folder / "tracked.mp4")) as container:
        shown = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert len(shown) == 10
    drawn = [draw_objects(frame, result["objects"]) for frame, result in zip(video(10), results, strict=True)]
    for number, picture in enumerate(shown):  # each is most like its own frame: the order is the video's
        unlike = [np.abs(picture[120:].astype(int) - other[120:]).mean() for other in drawn]
        assert int(np.argmin(unlike)) == number
    for name in FILES[1:]:
        picture = np.asarray(Image.open(folder / name))
        assert picture.ndim == 3 and picture.std() > 5
    with pytest.raises(ValueError, match=r"holds 'tracked.mp4' already, and nothing is overwritten"):
        pipe(video(2), box=BOX, visualize=folder)


def test_a_file_and_a_batch_in_a_folder(pipe, oracle, tmp_path):
    path = write_mp4(tmp_path / "in.mp4", 6)
    pipe([str(path), str(path)], box=BOX, visualize=str(tmp_path / "out"))
    for position in ("0", "1"):
        assert (tmp_path / "out" / position / "tracked.mp4").stat().st_size > 0


def test_videos_that_are_done_are_freed(pipe, oracle, tmp_path, monkeypatch):
    path = str(write_mp4(tmp_path / "in.mp4", 6))
    complete, alive = Extras.complete, []

    def counted(self, *arguments):
        alive.append(len(self._sources))
        return complete(self, *arguments)

    monkeypatch.setattr(Extras, "complete", counted)
    pipe([path] * 8, box=BOX, visualize=True, batch_size=1)
    assert len(alive) == 48 and max(alive) <= 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"masks": 3}, "`masks`=3 is unknown; use True"),
        ({"masks": ""}, "`masks`='' is unknown"),
        ({"visualize": None}, "`visualize`=None is unknown; use True, False, or a folder"),
        ({"visualize": __file__}, "is a file; pass a folder"),
        ({"visualize": True, "task": "describe"}, "`masks` and `visualize` go with `task`='track'"),
    ],
)
def test_values_of_no_use_are_refused_before_any_model_runs(pipe, options, message):
    with pytest.raises(ValueError, match=message):
        pipe(video(2), box=BOX, **options)


class Counting:
    """A video that counts how often a frame is read."""

    def __init__(self):
        self.reads = []

    def read(self, indices):
        self.reads.append(list(indices))
        return [np.full((2, 2, 3), index, np.uint8) for index in indices]


def test_last_frames_are_bounded_and_what_is_gone_is_read_again():
    source = Counting()
    last = LastFrames(source, 4)
    assert [int(image[0, 0, 0]) for image in last.read(range(6))] == list(range(6))
    assert last.take(5)[0, 0, 0] == 5 and source.reads == [list(range(6))]
    assert last.take(0)[0, 0, 0] == 0 and source.reads[-1] == [0]  # had to go
    assert last.reads is source.reads


@pytest.mark.parametrize("count", [0, 1, 4, 5, 9, 100, 1000])
def test_what_is_held_is_bounded_and_evenly_spread(count):
    spread = EvenlySpread(4)
    for number in range(count):
        spread.add(number)
        assert len(spread._held) <= 8
    chosen = spread.chosen()
    assert len(chosen) == min(count, 4) and chosen == sorted(chosen)
    if count:
        assert chosen[0] == 0 and chosen[-1] >= 0.74 * (count - 1)


def test_kept_tokens_are_those_of_the_model(pipe, tmp_path, monkeypatch):
    """Counted patch by patch against what the model says of the same frames, seen alone."""
    import torch

    seen = []
    monkeypatch.setattr(KeptTokens, "sheet", lambda self: seen.append(self))
    frames = video(6)
    pipe(frames, box=[BOX, (20, 6, 30, 15)], visualize=tmp_path, single_pass_up_to=0, clip_len=3)
    (kept,) = seen
    rows, columns = pipe.model.config.patch_grid
    wanted = np.zeros(rows * columns)
    for frame in frames:
        pixels = pipe.processor.image_processor(frame, return_tensors="pt")["pixel_values"]
        with torch.no_grad():
            wanted[pipe.model.base_model.get_image_features(pixel_values=pixels).kept_indices[0]] += 1
    assert kept.num_views == 6  # shared frames and two objects count once
    np.testing.assert_allclose(kept.share().ravel(), wanted / 6)


def test_what_was_not_kept_is_dimmed():
    image = np.full((40, 60, 3), 200, np.uint8)
    drawn = draw_kept(image, np.array([0, 5]), (2, 3))
    assert (drawn[:20, :20] == 200).all() and (drawn[20:, 40:] == 200).all()
    assert (drawn[:20, 20:] < 80).all() and (image == 200).all()


def test_plots_have_the_colors_of_the_objects():
    def item(number, score, x):
        box = {"xmin": x, "ymin": 10.0, "xmax": x + 10, "ymax": 20.0}
        return {"id": number, "label": ("_$swan$", "二羽")[number], "score": score, "box": box}

    results = [
        {"frame": n, "timestamp": None, "objects": [item(0, 0.5, n), item(1, float(n < 5), 40 - n)]} for n in range(9)
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # matplotlib's font has no such letters
        pictures = [plot_scores(results), plot_paths(np.zeros((40, 60, 3), np.uint8), results)]
    for picture in pictures:
        for number in (0, 1):
            near = np.abs(np.asarray(picture).astype(int) - COLORS[number]).max(axis=-1) < 12
            assert near.sum() > 30, number
    with pytest.raises(ValueError, match="`results` is empty"):
        plot_scores([])
