"""Threads: one for a small model, the user's own setting first, and afterwards as before."""

import os
from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch

from tracking_elysium import threads

from .oracle import tiny_pipeline, video


def model_of(parameters, device="cpu"):
    return SimpleNamespace(
        device=torch.device(device), parameters=lambda: iter([torch.empty(parameters, device="meta")])
    )


@pytest.fixture
def two_threads(monkeypatch):
    """Torch with two threads, as if it had started with them."""
    for name in threads.VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(threads, "starting_threads", lambda: {2})
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def test_small_models_take_one(two_threads, monkeypatch):
    assert threads.threads_for(model_of(threads.SMALL)) == 1
    assert threads.threads_for(model_of(threads.SMALL + 1)) is None
    assert threads.threads_for(model_of(10, "meta")) is None  # no CPU
    torch.set_num_threads(3)  # not what torch starts with: somebody has set it
    assert threads.threads_for(model_of(10)) is None


@pytest.mark.parametrize("name", threads.VARIABLES)
def test_a_variable_of_the_environment_is_kept(two_threads, monkeypatch, name):
    monkeypatch.setenv(name, "2")
    assert threads.threads_for(model_of(10)) is None


def test_what_torch_starts_with_is_known():
    found = threads.starting_threads()
    processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    assert max(found) == processors and min(found) >= 1 and len(found) <= 2


def test_contexts():
    torch_before, seen = torch.get_num_threads(), []
    with threads.with_threads(torch_before + 1, nullcontext)():
        seen.append(torch.get_num_threads())
    with pytest.raises(KeyError), threads.with_threads(torch_before + 1, nullcontext)():
        raise KeyError
    assert seen == [torch_before + 1] and torch.get_num_threads() == torch_before
    assert threads.with_threads(None, nullcontext) is nullcontext


class Machine:
    """A clock that passes move on: what a frame takes, by threads; on a busy machine two are slower."""

    def __init__(self):
        self.now, self.seen, self.seconds = 0.0, [], {1: 0.10, 2: 0.06}

    def run(self, timed, passes, frames=2):
        self.seen = []
        for _ in range(passes):
            with timed.passing(frames):
                self.seen.append(torch.get_num_threads())
                self.now += self.seconds[self.seen[-1]] * frames
        return self.seen


def test_passes_take_the_threads_that_are_faster_now(two_threads):
    machine = Machine()
    timed = threads.TimedThreads(lambda: machine.now)
    assert machine.run(timed, 3) == [2, 2, 2]  # outside of the model's context
    with threads.with_threads(1, nullcontext)():
        assert machine.run(timed, 8) == [1, 1, 2, 2, 2, 2, 2, 2]  # the first is not counted
        machine.seconds = {1: 0.15, 2: 0.50}  # others have come
        assert machine.run(timed, 6) == [2, 1, 1, 1, 1, 1]
        found = machine.run(timed, threads.TRY_EVERY)
        assert found.count(2) == 1  # and may have gone
        machine.seconds = {1: 0.10, 2: 0.06}
        assert machine.run(timed, 2 * threads.TRY_EVERY)[-10:] == [2] * 10
        assert torch.get_num_threads() == 1
        with pytest.raises(KeyError), timed.passing(1):
            raise KeyError
        assert torch.get_num_threads() == 1


def test_one_thread_at_the_start_stays(two_threads):
    torch.set_num_threads(1)
    machine = Machine()
    timed = threads.TimedThreads(lambda: machine.now)
    with threads.with_threads(1, nullcontext)():
        assert set(machine.run(timed, 80)) == {1}


@pytest.mark.parametrize("zoom", [False, True])
def test_boxes_do_not_depend_on_threads(two_threads, monkeypatch, zoom):
    pipe, found = tiny_pipeline(), []
    for choice in (lambda self, few, many: few, lambda self, few, many: many, threads.TimedThreads._choice):
        monkeypatch.setattr(threads.TimedThreads, "_choice", choice)
        found.append([frame["objects"][0] for frame in pipe(video(12), box=(10, 10, 30, 30), zoom=zoom)])
    for one in found[1:]:
        assert [item["box"] for item in one] == [item["box"] for item in found[0]]
        assert [item["score"] for item in one] == pytest.approx([item["score"] for item in found[0]], abs=1e-6)


def test_fixed_threads_leave_nothing_to_time(two_threads, monkeypatch):
    pipe, seen = tiny_pipeline(), []
    choose = threads.TimedThreads._choice
    monkeypatch.setattr(threads.TimedThreads, "_choice", lambda *given: seen.append(given) or choose(*given))
    pipe(video(12), box=(10, 10, 30, 30))
    assert seen
    seen.clear()
    threads.fix_threads(pipe.model)
    assert torch.get_num_threads() == 1
    first, second = (pipe(video(12), box=(10, 10, 30, 30)) for _ in range(2))
    assert first == second and not seen


@pytest.mark.parametrize("kind", ["track", "stream", "describe", "ask"])
def test_the_model_runs_in_one_thread_and_the_caller_keeps_two(two_threads, monkeypatch, kind):
    pipe, seen = tiny_pipeline(), []
    encode = pipe.model.model.get_image_features

    def noting(*args, **options):
        seen.append(torch.get_num_threads())
        return encode(*args, **options)

    monkeypatch.setattr(pipe.model.model, "get_image_features", noting)
    language_model, passes = pipe.model.model.language_model.forward, []

    def noting_passes(*args, **options):
        passes.append(torch.get_num_threads())
        return language_model(*args, **options)

    monkeypatch.setattr(pipe.model.model.language_model, "forward", noting_passes)
    box = (10, 10, 30, 30)
    if kind == "stream":
        for _ in pipe(video(12), box=box, stream=True, clip_len=4, single_pass_up_to=0):
            assert torch.get_num_threads() == 2
    elif kind == "ask":
        pipe.ask(video(3), "What?", max_new_tokens=2)
    else:
        pipe(video(3), box=box, task=kind, max_new_tokens=2)
    assert passes and set(passes) == {1} and torch.get_num_threads() == 2
    assert seen[:2] == [1, 1][: len(seen)] and 2 in seen[2:3] + [2]  # the tower's passes try both
