"""The published global batch on any number of processes, or an error that says which numbers do."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from train.arguments import training_arguments
from train.batches import accumulation_steps, world_sizes
from train.sft import read_recipes

from .tiny_recipe import recipe, stage

# Stage -> global batch, GPUs and items per GPU of the paper, and what other machines accumulate.
PUBLISHED = [
    ("stage1a", 256, 8, 8, 4),
    ("stage1a", 256, 32, 8, 1),
    ("stage1b", 512, 32, 16, 1),
    ("stage2a", 512, 32, 16, 1),
    ("stage2a", 512, 8, 16, 4),
    ("stage2a", 512, 1, 16, 32),
    ("stage2b", 32, 32, 1, 1),
    ("stage2b", 32, 4, 1, 8),
]


@pytest.mark.parametrize(("name", "total", "gpus", "per_gpu", "accumulated"), PUBLISHED)
def test_the_published_batches(monkeypatch, tmp_path, name, total, gpus, per_gpu, accumulated):
    one = read_recipes([name])
    (s,) = one.stages
    assert s.global_batch_size == total and s.arguments["per_device_train_batch_size"] == per_gpu
    assert accumulation_steps(total, per_gpu, gpus) == accumulated
    if gpus == 1:  # with more, the arguments would look for the other processes
        s.arguments["report_to"] = []
        assert training_arguments(s, one, tmp_path, use_cpu=True).gradient_accumulation_steps == accumulated


@given(st.integers(1, 2048), st.integers(1, 64), st.integers(1, 64))
def test_the_product_is_the_global_batch_or_it_is_refused(total, per_device, world_size):
    if world_size in world_sizes(total, per_device):
        assert accumulation_steps(total, per_device, world_size) * per_device * world_size == total
    else:
        assert total % (per_device * world_size)
        with pytest.raises(ValueError, match="does not divide it"):
            accumulation_steps(total, per_device, world_size)


def test_the_error_names_what_would_fit():
    with pytest.raises(ValueError, match=r"16 x 24 = 384 .* one of \[1, 2, 4, 8, 16, 32\] processes"):
        accumulation_steps(512, 16, 24)
    with pytest.raises(ValueError, match="a per_device_train_batch_size of 2, or"):
        accumulation_steps(32, 4, 16)
    with pytest.raises(ValueError, match="world size is 0"):
        accumulation_steps(32, 4, 0)


def test_a_stage_says_its_batch_once(tmp_path):
    both = stage(global_batch_size=6, arguments={"gradient_accumulation_steps": 2})
    with pytest.raises(ValueError, match="stage 's': global_batch_size decides"):
        training_arguments(both, recipe(), tmp_path, use_cpu=True)
    with pytest.raises(ValueError, match="stage 's': 1 processes with batches of 3"):
        training_arguments(stage(global_batch_size=4), recipe(), tmp_path, use_cpu=True)
    arguments = training_arguments(stage(global_batch_size=6), recipe(), tmp_path, use_cpu=True)
    assert arguments.gradient_accumulation_steps == 2
