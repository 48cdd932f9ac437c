"""Simulated users of the demo on loopback: errors, jobs, and the server's memory and files over time.

    python -m benchmarks.space_load --report benchmarks/space_load.md

It starts the demo itself and needs the extra demo. Every user comes again and again, in turn to take the sample or
upload it, follow a box, track to the end, correct a box in a later frame and go on, with all files downloaded; to
press Stop in the middle and go on; to leave in the middle. Users wait for each other in the queue as visitors would.
The last line of the output is one JSON object.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import av
import numpy as np

ROOT = Path(__file__).resolve().parents[1]
EVERY_S = 10.0
KINDS = ("sample", "upload", "stop", "leave")  # of visits, in turn
CORRECTED_AT = 10  # frame
AFTER_S = 180.0  # the demo keeps files for two minutes after a page was closed
WARM_UP = 1 / 3  # of the time, left out of the slope


@dataclass(frozen=True)
class Sight:
    """The server at one moment: its memory, its threads, its temporary files, and the jobs that have ended."""

    seconds: float
    resident_mib: float
    threads: int
    files: int
    files_mb: float
    jobs: int


@dataclass
class Counts:
    """What the users met."""

    visits: Counter[str] = field(default_factory=Counter)
    job_s: list[float] = field(default_factory=list)
    downloads: int = 0
    errors: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)


def look(pid: int, folder: Path, since: float, jobs: int) -> Sight:
    """Look at the server (Linux)."""
    status = Path(f"/proc/{pid}/status").read_text()
    resident, threads = (int(re.findall(rf"{name}:\s+(\d+)", status)[0]) for name in ("VmRSS", "Threads"))
    sizes = []
    for path in folder.rglob("*"):
        try:
            sizes.append(path.stat().st_size if path.is_file() else None)
        except OSError:  # gone meanwhile
            continue
    held = [size for size in sizes if size is not None]
    seconds = round(time.monotonic() - since, 1)
    return Sight(seconds, round(resident / 1024, 1), threads, len(held), round(sum(held) / 1e6, 2), jobs)


class User:
    """One user, who visits until the time is over.

    Args:
        address: of the demo.
        video: what is uploaded; its record lies beside it (`.json`) and says where the object is.
        number: of the user; says which kind of visit comes first.
        counts: what is met goes there.
        end: when the last job begins, in seconds of `time.monotonic`.
    """

    def __init__(self, address: str, video: Path, number: int, counts: Counts, end: float) -> None:
        record = json.loads(video.with_suffix(".json").read_text())
        boxes = dict(zip(record["frames"], record["objects"][0]["box"], strict=True))
        sides = [*record["frame_size"], *record["frame_size"]]
        self.box, self.corrected = (
            [round(max(share, 0.0) * side) for share, side in zip(boxes[at], sides, strict=True)]
            for at in (0, CORRECTED_AT)
        )
        self.address, self.video, self.number, self.counts, self.end = address, video, number, counts, end

    def visit_until_the_end(self) -> None:
        """Visit again and again; whatever a visitor would have met as an error is counted."""
        turn = self.number
        while time.monotonic() < self.end:
            kind = KINDS[turn % len(KINDS)]
            turn += 1
            try:
                self.visit(kind)
            except Exception as error:
                told = f"{kind}: {type(error).__name__}: {error}"[:300]
                print(told, flush=True)
                with self.counts.lock:
                    self.counts.errors.append(told)
                time.sleep(1)
            else:
                with self.counts.lock:
                    self.counts.visits[kind] += 1

    def visit(self, kind: str) -> None:
        """Come, do what this kind of visit does, and leave."""
        from gradio_client import handle_file

        downloads = tempfile.TemporaryDirectory(prefix="downloads-")
        with downloads as folder, closing(self._come(folder)) as client:
            if kind == "sample":
                client.predict(api_name="/open_sample")
            else:
                client.predict(handle_file(str(self.video)), api_name="/open_video")
            client.predict(0, *self.box, kind, "forward", api_name="/add_box")
            if kind == "leave":
                next(iter(client.submit(None, 0, api_name="/track")))
                return
            if kind == "stop":
                job = client.submit(None, 0, api_name="/track")
                next(iter(job))
                client.predict(api_name="/stop")
                if "Stopped" not in str(job.result()):
                    return  # it was done before the press came
                self._tracked(client, folder)
                return
            self._tracked(client, folder)
            if time.monotonic() > self.end:
                return
            client.predict(0, CORRECTED_AT, *self.corrected, api_name="/correct")
            self._tracked(client, folder)

    def _come(self, folder: str) -> Any:
        """Open the page, as patient with a busy server as a browser is."""
        from gradio_client import Client

        return Client(self.address, verbose=False, download_files=folder, httpx_kwargs={"timeout": 300})

    def _tracked(self, client: Any, folder: str) -> None:
        """Track to the end; the files must have come."""
        started, known = time.monotonic(), set(Path(folder).rglob("tracked.mp4"))
        client.predict(None, 0, api_name="/track")
        came = {path for path in Path(folder).rglob("tracked.mp4") if path.stat().st_size} - known
        if not came:
            raise RuntimeError("no video with boxes came")
        with self.counts.lock:
            self.counts.job_s.append(time.monotonic() - started)
            self.counts.downloads += len(came)


def shortened(video: Path, folder: Path, frames: int) -> Path:
    """Write the first frames of a video, and its record beside it."""
    short, record = folder / "clip.mp4", json.loads(video.with_suffix(".json").read_text())
    with av.open(str(video)) as source, av.open(str(short), "w") as target:
        rate = source.streams.video[0].average_rate
        stream = target.add_stream("libx264", rate=rate, options={"crf": "18"})
        stream.width, stream.height, stream.pix_fmt = *record["frame_size"], "yuv420p"
        for number, frame in zip(range(frames), source.decode(video=0), strict=False):
            frame.pts = number
            frame.time_base = 1 / rate
            target.mux(stream.encode(frame))
        target.mux(stream.encode())
    short.with_suffix(".json").write_text(json.dumps(record))
    return short


@contextmanager
def served(model: str, video: Path, port: int, folder: Path) -> Iterator[tuple[str, int]]:
    """Run `elysium demo` as a process that puts temporary files below `folder`; its address and process id."""
    command = [sys.executable, "-m", "tracking_elysium.cli", "demo", "--port", str(port), "--model", model]
    command += ["--sample", str(video)]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "TMPDIR": str(folder)})
    try:
        line = server.stdout.readline() if server.stdout else ""
        if not line.startswith("Open "):
            raise SystemExit("the demo did not start")
        yield line.split()[1], server.pid
    finally:
        server.terminate()
        server.wait(60)


def measure(address: str, pid: int, folder: Path, video: Path, users: int, seconds: float) -> dict[str, Any]:
    """Let the users in, look at the server on the way, and once more when all have left."""
    counts, started = Counts(), time.monotonic()
    coming = [User(address, video, number, counts, started + seconds) for number in range(users)]
    threads = [threading.Thread(target=user.visit_until_the_end, daemon=True) for user in coming]
    for thread in threads:
        thread.start()
    sights = []
    while any(thread.is_alive() for thread in threads) and time.monotonic() < started + 2 * seconds + 120:
        sights.append(look(pid, folder, started, len(counts.job_s)))
        print(sights[-1], f"{len(counts.errors)} errors", flush=True)
        time.sleep(EVERY_S)
    stuck = sum(thread.is_alive() for thread in threads)
    if stuck:
        counts.errors.append(f"{stuck} users still waited for a job {seconds + 120:.0f} s after the last visit began")
    time.sleep(AFTER_S)
    return {
        "users": users,
        "seconds": sights[-1].seconds,
        "visits": dict(counts.visits),
        "jobs": len(counts.job_s),
        "downloads": counts.downloads,
        "errors": counts.errors,
        "job_s": {name: round(float(np.quantile(counts.job_s or [np.nan], q)), 1) for name, q in QUANTILES.items()},
        "slope_mib_per_minute": round(slope(sights, seconds), 3),
        "sights": [asdict(sight) for sight in sights],
        "after": asdict(look(pid, folder, started, len(counts.job_s))),
    }


QUANTILES = {"median": 0.5, "longest": 1.0}


def slope(sights: list[Sight], seconds: float) -> float:
    """Fit a line through the memory after the warm-up, while all users are there; MiB per minute."""
    steady = [sight for sight in sights if WARM_UP * seconds <= sight.seconds <= seconds]
    if len(steady) < 2:
        return float("nan")
    return float(np.polyfit([sight.seconds / 60 for sight in steady], [sight.resident_mib for sight in steady], 1)[0])


def report(found: dict[str, Any], command: str, model: str, cpu_s: float) -> str:
    """Write the page."""
    import gradio
    import torch

    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    visits = ", ".join(f"{count} {kind}" for kind, count in found["visits"].items())
    rows, minute = [], -1
    for sight in found["sights"]:
        if int(sight["seconds"] // 60) > minute:
            minute = int(sight["seconds"] // 60)
            rows.append(sight)
    lines = [f"| {row['seconds'] / 60:.0f} | {_cells(row)} |" for row in [*rows, found["sights"][-1]]]
    lines.append(f"| all have left | {_cells(found['after'])} |")
    versions = f"Python {platform.python_version()}, torch {torch.__version__}, Gradio {gradio.__version__}"
    minutes, downloads, errors = found["seconds"] / 60, found["downloads"], len(found["errors"])
    median, longest, line = *found["job_s"].values(), found["slope_mib_per_minute"]
    return f"""# The demo under load

{datetime.date.today()}, `{command}`; {platform.machine()}, {os.cpu_count()} cores; {versions}.
Model `{model}`, one job at a time (`--concurrency 1`). The machine had other work meanwhile: its load was {load}
(1, 5 and 15 minutes) at the end.

{found["users"]} users on loopback for {minutes:.1f} minutes, simulated on the same machine, visited: {visits}
(see `benchmarks/space_load.py`). {found["jobs"]} jobs ran to their end, {downloads} videos with boxes were downloaded,
and there were **{errors} errors**. From the press on Track to the files, the wait for others' jobs included, it took
{median} s at the median, {longest} s at most. The server used {cpu_s:.0f} s of CPU time.

Memory after the first third of the time, by a straight line: {line:+.2f} MiB per minute. When the
demo had ended, {found["left_behind"]} of its temporary files were left.

| minute | resident memory (MiB) | threads | temporary files | of MB | jobs |
|---|---|---|---|---|---|
{chr(10).join(lines)}
"""


def _cells(sight: dict[str, Any]) -> str:
    names = ("resident_mib", "threads", "files", "files_mb", "jobs")
    return " | ".join(str(sight[name]) for name in names)


def main() -> int:
    """Start the demo, measure, end it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--users", type=int, default=8, help="users at the same time (default: 8)")
    parser.add_argument("--minutes", type=float, default=15.0, help="how long they begin new visits (default: 15)")
    parser.add_argument("--port", type=int, default=7871, help="port of the demo (default: 7871)")
    parser.add_argument(
        "--model", default="tests/fixtures/drawn_shapes", help="checkpoint (default: the one of drawn shapes)"
    )
    parser.add_argument(
        "--video",
        type=Path,
        default=ROOT / "tests/fixtures/drawn_sample.mp4",
        help="what users upload, a record .json beside it (default: the drawn sample)",
    )
    parser.add_argument("--frames", type=int, default=24, help="of the video that are used (default: 24)")
    parser.add_argument("--report", type=Path, help="write a page, such as benchmarks/space_load.md")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="space-load-") as name:
        video = shortened(args.video, Path(name), args.frames)
        folder = Path(name) / "server"
        folder.mkdir()
        with served(args.model, video, args.port, folder) as (address, pid):
            found = measure(address, pid, folder, video, args.users, args.minutes * 60)
            ticks = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
            cpu_s = sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK")
        found["left_behind"] = sum(path.is_file() for path in folder.rglob("*"))
    if args.report is not None:
        command = "python -m benchmarks.space_load " + " ".join(sys.argv[1:])
        args.report.write_text(report(found, command, args.model, cpu_s), encoding="utf-8")
    print(json.dumps(found))
    return 1 if found["errors"] else 0


if __name__ == "__main__":
    sys.exit(main())
