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


@pytest.mark.parametrize("kind", ["track", "stream", "describe", "ask"])
def test_the_model_runs_in_one_thread_and_the_caller_keeps_two(two_threads, monkeypatch, kind):
    pipe, seen = tiny_pipeline(), []
    encode = pipe.model.model.get_image_features

    def noting(*args, **options):
        seen.append(torch.get_num_threads())
        return encode(*args, **options)

    monkeypatch.setattr(pipe.model.model, "get_image_features", noting)
    box = (10, 10, 30, 30)
    if kind == "stream":
        for _ in pipe(video(12), box=box, stream=True, clip_len=4, single_pass_up_to=0):
            assert torch.get_num_threads() == 2
    elif kind == "ask":
        pipe.ask(video(3), "What?", max_new_tokens=2)
    else:
        pipe(video(3), box=box, task=kind, max_new_tokens=2)
    assert seen and set(seen) == {1} and torch.get_num_threads() == 2
