"""Worker processes that take one video at a time; one that hangs or dies is replaced and costs its video only."""

from __future__ import annotations

import multiprocessing
import os
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from multiprocessing.connection import Connection, wait
from typing import Any, Generic, TypeVar

import pyarrow as pa

from .config import BuildConfig
from .items import CaptionedVideo, VideoResult
from .process import DISK_FULL, VideoProcessor
from .rows import TRAJECTORY_SCHEMA

__all__ = ["OneWorker", "map_videos"]

Key = TypeVar("Key")
READY, DONE, REFUSED, FULL = "ready", "done", "refused", "disk full"  # what a worker says


def map_videos(config: BuildConfig, items: Iterable[tuple[Key, CaptionedVideo]]) -> Iterator[tuple[Key, VideoResult]]:
    """Work on videos in `config.processes` processes; results come as they are ready, each with its key.

    An item is taken from `items` when a worker has nothing to do, so neither items nor results pile up.

    Raises:
        ValueError: a worker cannot build its components.
        OSError: the disk is full.
    """
    source = iter(items)
    workers: list[_Worker[Key]] = []
    try:
        following = next(source, None)
        while following is not None or any(worker.key is not None for worker in workers):
            if following is not None and len(workers) < config.processes:
                workers.append(_Worker(config, config.devices[len(workers) % len(config.devices)]))
            for worker in workers:
                if following is not None and worker.ready and worker.key is None and worker.give(*following):
                    following = next(source, None)
            if following is not None and len(workers) < config.processes:
                continue
            for worker in _spoken(workers):
                if (answer := worker.answer()) is not None:
                    yield answer
    finally:
        for worker in workers:
            worker.end()


class OneWorker:
    """A worker process for who hands in one video after another and waits: an actor of Ray."""

    def __init__(self, config: BuildConfig, device: str) -> None:
        """Start the process, which builds its components meanwhile."""
        self._worker: _Worker[str] = _Worker(config, device)

    def process(self, item: CaptionedVideo) -> VideoResult:
        """Work on a video; a process that hangs or dies is replaced and costs its video only.

        Raises:
            ValueError: the components cannot be built.
            OSError: the disk is full.
        """
        while not (self._worker.ready and self._worker.give(item.id, item)):
            for worker in _spoken([self._worker]):
                worker.answer()
        while True:
            for worker in _spoken([self._worker]):
                if (answer := worker.answer()) is not None:
                    return answer[1]

    def end(self) -> None:
        """Kill the process."""
        self._worker.end()


class _Worker(Generic[Key]):
    """A process and what it works on; started again where it has to be killed."""

    def __init__(self, config: BuildConfig, device: str) -> None:
        self._config, self._device = config, device
        self.key: Key | None = None
        self._start()

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self._process = context.Process(target=_work, args=(self._config, self._device, theirs), daemon=True)
        self._process.start()
        theirs.close()
        self.ready, self.deadline = False, float("inf")

    def give(self, key: Key, item: CaptionedVideo) -> bool:
        """Hand it a video; False where it died while it had nothing to do, and is being started again."""
        try:
            self.connection.send(item)
        except OSError:
            self.end()
            self._start()
            return False
        self.key, self.deadline = key, time.monotonic() + self._config.timeout_s
        return True

    def answer(self) -> tuple[Key, VideoResult] | None:
        """Hear what it says; None where that is no result."""
        late = time.monotonic() >= self.deadline
        try:
            kind, content = self.connection.recv() if self.connection.poll() else ("", None)
        except (EOFError, OSError):
            return self._replace("worker_died", "")
        if kind == READY:
            self.ready = True
        elif kind == REFUSED:
            raise content
        elif kind == FULL:
            raise OSError(*content)
        elif kind == DONE:
            return self._result(content)
        elif late:
            return self._replace("timeout", f"not done after timeout_s={self._config.timeout_s:g} seconds")
        return None

    def _result(self, result: VideoResult) -> tuple[Key, VideoResult]:
        key, self.key, self.deadline = self.key, None, float("inf")
        assert key is not None
        return key, result

    def _replace(self, reason: str, detail: str) -> tuple[Key, VideoResult] | None:
        """Start another process; the video of the old one is put aside."""
        code = self.end() if reason == "timeout" else self._ended()
        if not self.ready:
            raise ValueError(f"a worker ended with exit code {code} while it built its components; see its output.")
        self._start()
        if self.key is None:
            return None
        return self._result(VideoResult(quarantined=(reason, detail or f"exit code {code} of the worker")))

    def _ended(self) -> int | None:
        self._process.join(timeout=10)  # so that it is its own exit code, not that of our kill
        return self.end()

    def end(self) -> int | None:
        """Kill the process, whatever it does; returns its exit code."""
        self._process.kill()
        self._process.join()
        self.connection.close()
        return self._process.exitcode


def _spoken(workers: list[_Worker[Key]]) -> list[_Worker[Key]]:
    """Wait until workers say something, end, or are late."""
    patience = min(worker.deadline for worker in workers) - time.monotonic()
    heard = wait([worker.connection for worker in workers], None if patience == float("inf") else max(patience, 0))
    now = time.monotonic()
    return [worker for worker in workers if worker.connection in heard or worker.deadline <= now]


def _work(config: BuildConfig, device: str, connection: Connection) -> None:
    """Run in the worker: build the components once, then answer video after video."""
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's, which ends us
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _one_thread(device)
    try:
        import filterpy.kalman  # noqa: F401  imported by a stage at first use, on the time of the first video

        from .backends.make import make_components

        processor = VideoProcessor(config, make_components(config, device))
    except Exception as error:
        connection.send((REFUSED, ValueError(f"the components cannot be built: {type(error).__name__}: {error}")))
        return
    connection.send((READY, None))
    while True:
        try:
            item = connection.recv()
        except EOFError:
            return
        try:
            connection.send((DONE, _writable(processor.process(item))))
        except OSError as error:
            if error.errno not in DISK_FULL:
                raise
            connection.send((FULL, (error.errno, error.strerror, error.filename)))


def _writable(result: VideoResult) -> VideoResult:
    """Put a video aside whose rows no parquet file can hold, for instance text with half a surrogate pair."""
    try:
        pa.Table.from_pylist([row.to_row() for row in result.rows], schema=TRAJECTORY_SCHEMA)
    except Exception as error:
        return VideoResult(quarantined=("unwritable", f"{type(error).__name__}: {error}"), seconds=result.seconds)
    return result


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


def _one_thread(device: str) -> None:
    """Give a worker on the CPU one thread, unless the user has set a number: processes share the cores already."""
    if device != "cpu" or "OMP_NUM_THREADS" in os.environ:
        return
    os.environ["OMP_NUM_THREADS"] = "1"
    torch: Any = sys.modules.get("torch")
    if torch is not None:
        torch.set_num_threads(1)
