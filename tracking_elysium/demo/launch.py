"""Starts the demo: one folder for everything that visitors bring, removed at the end."""

from __future__ import annotations

import logging
import os
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .limits import Limits

if TYPE_CHECKING:
    from .engine import Engine

SWEEP_EVERY_S = 20.0
NEEDED = "The demo needs Gradio, which is not installed here: run `pip install 'elysium[demo]'`."


@dataclass(frozen=True)
class Settings:
    """How the demo runs.

    Attributes:
        models: checkpoint folders or Hub ids; the first is the default, visitors may choose among them.
        host: address to listen at; 127.0.0.1 is this machine alone.
        port: to listen at; None takes the first free one from 7860 on.
        device: see `elysium track --device`.
        dtype: see `elysium track --dtype`.
        sample: a video that visitors can take, or None.
        inbrowser: open a browser.
        limits: what one visitor may ask for.
    """

    models: tuple[str, ...]
    host: str = "127.0.0.1"
    port: int | None = None
    device: str | None = None
    dtype: str = "auto"
    sample: Path | None = None
    inbrowser: bool = False
    limits: Limits = Limits()


@contextmanager
def running(settings: Settings, engine: Engine | None = None) -> Iterator[str]:
    """Run the demo while the block does.

    Args:
        settings: see there.
        engine: what tracks; None loads the models of `settings`.

    Yields:
        Its address.

    Raises:
        ImportError: Gradio is not installed.
        ValueError: a model that cannot be loaded.
        OSError: the port is taken.
    """
    try:
        import gradio  # noqa: F401
        import gradio_image_annotation  # noqa: F401
    except ImportError as error:
        raise ImportError(f"{NEEDED} ({error})") from error
    rooms = tempfile.TemporaryDirectory(prefix="elysium-demo-", ignore_cleanup_errors=True)
    with rooms as folder, _served(settings, Path(folder), engine) as address:
        yield address


@contextmanager
def _served(settings: Settings, root: Path, engine: Engine | None) -> Iterator[str]:
    from .engine import Engine, Models
    from .handlers import Handlers
    from .sessions import Sessions

    sessions = Sessions(root, settings.limits.keep_minutes * 60)
    before = os.environ.get("GRADIO_TEMP_DIR")
    os.environ["GRADIO_TEMP_DIR"] = str(sessions.uploads)  # where Gradio puts uploads, and what it shows
    try:
        from .page import build_page, look

        engine = engine or Engine(Models(list(settings.models), settings.device, settings.dtype))
        page = build_page(Handlers(engine, sessions, settings.limits, settings.sample))
        page.queue(max_size=settings.limits.queue, default_concurrency_limit=4)
        _, address, _ = page.launch(**_launch_options(settings), **look())
        done = threading.Event()
        sweeper = threading.Thread(target=_sweep_until, args=(sessions, page, done), daemon=True)
        sweeper.start()
        try:
            yield address
        finally:
            done.set()
            page.close(verbose=False)
            sessions.close()
    finally:
        if before is None:
            os.environ.pop("GRADIO_TEMP_DIR", None)
        else:
            os.environ["GRADIO_TEMP_DIR"] = before


def _launch_options(settings: Settings) -> dict[str, Any]:
    """Say what Gradio may show and take: no file but the uploads, no reports to anybody, no tunnel."""
    return {
        "server_name": settings.host,
        "server_port": settings.port,
        "max_file_size": settings.limits.upload_mb * 10**6,
        "allowed_paths": [],
        "share": False,
        "quiet": True,
        "inbrowser": settings.inbrowser,
        "prevent_thread_lock": True,
        "footer_links": ["settings"],
        "ssr_mode": False,
        "enable_monitoring": False,
    }


def _sweep_until(sessions: Any, page: Any, done: threading.Event) -> None:
    while not done.wait(SWEEP_EVERY_S):
        try:
            sessions.sweep()
        except OSError:
            logging.getLogger(__name__).exception("files of idle visitors could not be removed")
        for names in page.temp_file_sets:  # Gradio notes each file that it shows, and would do so for ever
            names.difference_update([name for name in list(names) if not os.path.exists(name)])
