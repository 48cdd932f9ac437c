"""The arithmetic of batches: what one optimizer step sees, whatever the number of processes."""

from __future__ import annotations

__all__ = ["accumulation_steps", "world_sizes"]


def accumulation_steps(global_batch: int, per_device: int, world_size: int) -> int:
    """Batches that every process accumulates so that an optimizer step sees the published number of items.

    global batch = items of a batch of a process x accumulated batches x processes

    Args:
        global_batch: items of an optimizer step.
        per_device: items of one batch of one process.
        world_size: processes, one per GPU.

    Raises:
        ValueError: the product cannot be reached; the message lists numbers that can.
    """
    for name, value in (
        ("global batch", global_batch),
        ("batch of a process", per_device),
        ("world size", world_size),
    ):
        if value < 1:
            raise ValueError(f"the {name} is {value}; give 1 or more.")
    accumulated, rest = divmod(global_batch, per_device * world_size)
    if accumulated and not rest:
        return accumulated
    fitting = [n for n in range(per_device, 0, -1) if global_batch % (n * world_size) == 0]
    smaller = f"a per_device_train_batch_size of {fitting[0]}, or " if fitting else ""
    raise ValueError(
        f"{world_size} processes with batches of {per_device} cannot make a global batch of {global_batch}: "
        f"{per_device} x {world_size} = {per_device * world_size} does not divide it. Give {smaller}one of "
        f"{world_sizes(global_batch, per_device)} processes (per_device_train_batch_size {per_device}), or another "
        "global_batch_size (the learning rate belongs to the published one)."
    )


def world_sizes(global_batch: int, per_device: int) -> list[int]:
    """Numbers of processes that can make a global batch of batches of `per_device`."""
    if global_batch % per_device:
        return []
    share = global_batch // per_device
    return [n for n in range(1, share + 1) if share % n == 0]
