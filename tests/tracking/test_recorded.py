"""Passes of fixed shapes, as CUDA graphs need them: the same answers, from few recordings that nothing moves under."""

import pytest
import torch

from tracking_elysium.answering import ClipAnswerer
from tracking_elysium.drafted_answering import DraftedAnswerer
from tracking_elysium.drafted_graphs import RecordedPasses

from .oracle import fitting_model
from .scripted import saying, scripted_model
from .test_decoding import answers, assert_same, boxes_text, frames_of, fresh, tracking
from .tokenizers_of_all_kinds import processor_of


class Recorder:
    """Stands in for CUDA graphs: plays a recording by running it again, and checks that it would read the same memory.

    Attributes:
        recorded: recordings made.
        played: recordings played.
    """

    def __init__(self, cache_of):
        self._cache_of, self.recorded, self.played = cache_of, 0, 0

    def __call__(self, run):
        output, before = run().clone(), self._addresses()
        self.recorded += 1

        def replay():
            assert self._addresses() == before
            self.played += 1
            output.copy_(run())

        return output, replay

    def _addresses(self):
        cache = self._cache_of()
        return cache.count, cache.width, [layer.keys.data_ptr() for layer in cache.layers]


def recording(answerer):
    """Make the answerer record its passes; returns who counts them."""
    recorder = Recorder(lambda: answerer._cache)
    answerer._recorded = RecordedPasses(answerer._pass, recorder)
    return recorder


@pytest.mark.parametrize("constrained", [True, False])
@pytest.mark.parametrize("batch_size", [1, 3, 16])
@pytest.mark.parametrize("says_boxes", [True, False])
def test_answers_do_not_depend_on_recordings(says_boxes, batch_size, constrained):
    processor = processor_of("characters")
    model = fitting_model(processor)
    if says_boxes:
        model = scripted_model(processor, saying(processor, lambda question: boxes_text(processor, 6)))
    requests = [tracking(processor, frames_of(6, seed), word) for seed in range(3) for word in ("a", "b c", "d")]
    requests += [tracking(processor, frames_of(2, 9), "e")]  # rows of several lengths leave at different times
    wanted, stats = answers(DraftedAnswerer, model, processor, requests, batch_size, constrained=constrained)
    answerer = DraftedAnswerer(model, processor, batch_size, constrained=constrained)
    recorder = recording(answerer)
    assert_same(answerer(fresh(requests)), wanted)
    assert answerer.stats.row_forwards == stats.row_forwards
    again = answerer(fresh(requests))
    assert_same(again, wanted)
    assert answerer._recorded.count <= 24 and recorder.played > recorder.recorded


def test_shapes_are_few_and_large_enough():
    shapes = {RecordedPasses.shape(rows, width) for rows in range(1, 33) for width in range(1, 257)}
    assert len(shapes) == 6 * (8 + 3)
    for rows, width in ((1, 1), (3, 17), (16, 64), (17, 65)):
        padded = RecordedPasses.shape(rows, width)
        assert padded[0] >= rows and padded[1] >= width
    assert RecordedPasses.shape(5, 9) == (8, 16)


def test_a_recording_is_made_once_per_shape_and_ends_with_its_memory():
    made = []

    def record(run):
        made.append(run)
        output = run()
        return output, lambda: output.copy_(run())

    passes = RecordedPasses(lambda a, b: a * b.sum(), record)
    b = torch.ones(2)
    for version, a, recordings in (
        (0, torch.ones(3), 1),
        (0, torch.full((3,), 5.0), 1),  # the same shape: played
        (0, torch.ones(4), 2),  # another
        (1, torch.ones(4), 3),  # the memory has moved
        (1, torch.full((4,), 7.0), 3),
    ):
        assert torch.equal(passes(version, a=a, b=b), a * 2)
        assert len(made) == recordings
    assert passes.count == 1


def test_what_cannot_be_recorded_runs_as_it_is():
    def record(run):
        raise RuntimeError("operation not permitted when stream is capturing\nand more")

    passes = RecordedPasses(lambda a: a + 1, record)
    with pytest.warns(UserWarning, match=r"could not be recorded as CUDA graphs \(operation not permitted"):
        assert passes(0, a=torch.ones(1)) == 2
    assert passes(0, a=torch.ones(2)).tolist() == [2, 2]  # without another warning


@pytest.mark.gpu
@pytest.mark.parametrize("constrained", [True, False])
def test_cuda_graphs_say_what_generate_says(constrained):
    processor = processor_of("characters")
    model = fitting_model(processor).to("cuda")
    requests = [tracking(processor, frames_of(6, seed), word) for seed in range(3) for word in ("a", "b c", "d")]
    wanted, _ = answers(ClipAnswerer, model, processor, requests, constrained=constrained)
    answerer = DraftedAnswerer(model, processor, constrained=constrained, compile=True)
    for _ in range(2):
        assert_same(answerer(fresh(requests)), wanted)
    assert answerer._recorded.count > 0
