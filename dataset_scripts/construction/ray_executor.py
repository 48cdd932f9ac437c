"""Videos over a pool of Ray Data's actors, on one machine or many; results are those of the local executor.

Every actor keeps a worker process of `workers.py`, so that a video that hangs, kills its process or breaks its
backend is put aside under the same reason as without Ray. Captions and paths live in the object store of the machine
that runs the build, so that Ray can hand a batch out again when another machine is lost. What is finished is known by
the manifest of the build alone; none of Ray's own checkpoints is used.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
import os
import pickle
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import pyarrow as pa

from .config import BuildConfig, RayConfig
from .items import CaptionedVideo, VideoResult
from .workers import OneWorker

__all__ = ["map_videos_on_ray"]

Key = TypeVar("Key")
WINDOW = 65_536  # videos handed to Ray at a time, so that memory is flat over millions; actors are started per window
IN_FLIGHT = 2  # batches an actor holds: one in work, one that waits
STORE_BYTES = 2**29  # of a cluster started here; batches are captions and boxes, no frames


def map_videos_on_ray(
    config: BuildConfig, items: Iterable[tuple[Key, CaptionedVideo]]
) -> Iterator[tuple[Key, VideoResult]]:
    """Work on videos in Ray's actors; results come as they are ready, each with its key.

    Back-pressure: an actor holds `IN_FLIGHT` batches at most, Ray hands out no more while results that nobody has
    taken fill its share of the object store, and the next `WINDOW` videos are read when these are done.

    Raises:
        ImportError: Ray is not installed.
        ValueError: a worker cannot build its components, or the least number of actors does not fit into the cluster.
        OSError: the disk is full.
    """
    ray, source = _ray(), iter(items)
    window = list(itertools.islice(source, WINDOW))
    if not window:
        return
    with _cluster(ray, config.ray):
        while window:
            yield from _results(ray, config, window)
            window = list(itertools.islice(source, WINDOW))


def _results(
    ray: Any, config: BuildConfig, window: list[tuple[Key, CaptionedVideo]]
) -> Iterator[tuple[Key, VideoResult]]:
    settings = config.ray
    starts = range(0, len(window), settings.batch_size)
    data = ray.data.from_arrow([_table(window, range(len(window))[at : at + settings.batch_size]) for at in starts])
    data = data.map_batches(
        _Actor,
        fn_constructor_args=(config,),
        batch_size=settings.batch_size,
        batch_format="pyarrow",
        compute=ray.data.ActorPoolStrategy(
            min_size=settings.min_actors, max_size=settings.max_actors, max_tasks_in_flight_per_actor=IN_FLIGHT
        ),
        num_cpus=settings.num_cpus,
        num_gpus=settings.num_gpus,
    )
    for batch in data.iter_batches(batch_size=None, batch_format="pyarrow"):
        for number, packed in zip(batch["number"].to_pylist(), batch["result"].to_pylist(), strict=True):
            result = pickle.loads(packed)  # made by our own actor a moment ago
            if isinstance(result, Exception):
                raise result
            yield window[number][0], result


class _Actor:
    """What Ray calls with batches of the work list: an actor with one worker process."""

    def __init__(self, config: BuildConfig) -> None:
        # Ray shows an actor the GPU of its share only, and that one is cuda:0 there
        self._worker = OneWorker(config, "cuda:0" if config.ray.num_gpus else config.devices[0])

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Answer each row of a batch; an error that ends the run travels as a result, so that it arrives as it is."""
        results: list[VideoResult | Exception] = []
        for line in batch["item"].to_pylist():
            try:
                results.append(self._worker.process(CaptionedVideo(**json.loads(line))))
            except (ValueError, OSError) as error:
                results.append(error)
        packed = pa.array([pickle.dumps(result) for result in results], type=pa.binary())
        return pa.table({"number": batch["number"], "result": packed})

    def __del__(self) -> None:
        """End the process with its actor."""
        if hasattr(self, "_worker"):
            self._worker.end()


def _table(window: list[tuple[Key, CaptionedVideo]], numbers: range) -> pa.Table:
    """Return videos of a window as rows; JSON, because Arrow's text holds no half of a surrogate pair."""
    items = [json.dumps(dataclasses.asdict(window[number][1])) for number in numbers]
    return pa.table({"number": list(numbers), "item": items})


def _ray() -> Any:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise ImportError(
            "executor: ray needs Ray Data; `pip install 'elysium[ray]'` on every machine, or use executor: local."
        ) from error
    return ray


@contextmanager
def _cluster(ray: Any, settings: RayConfig) -> Iterator[None]:
    """Join a cluster, or start one here for the time of the run; one that the caller has joined stays joined."""
    mine = not ray.is_initialized()
    if mine and settings.address is not None:
        ray.init(address=settings.address, logging_level="warning")
    elif mine:
        cpus = math.ceil(settings.max_actors * settings.num_cpus) + 1  # Ray plans with a little room
        ray.init(num_cpus=cpus, include_dashboard=False, logging_level="warning", object_store_memory=STORE_BYTES)
    try:
        _check_fit(ray, settings)
        context = ray.data.DataContext.get_current()
        before = context.enable_progress_bars
        context.enable_progress_bars = False  # the live table of the build shows more
        try:
            yield
        finally:
            context.enable_progress_bars = before
    finally:
        if mine:
            ray.shutdown()


def _check_fit(ray: Any, settings: RayConfig) -> None:
    """Refuse a pool that would wait for ever.

    Raises:
        ValueError: the cluster has not what the least number of actors takes.
    """
    there = ray.cluster_resources()
    for name, each in (("CPU", settings.num_cpus), ("GPU", settings.num_gpus)):
        needed = settings.min_actors * each
        if needed > there.get(name, 0):
            raise ValueError(
                f"ray.min_actors={settings.min_actors} with {each:g} {name} each need {needed:g}, and the cluster has "
                f"{there.get(name, 0):g}; lower ray.min_actors or ray.num_{name.lower()}s, or join a larger cluster "
                "by ray.address."
            )
