"""Simulated users of the demo on loopback: errors, jobs, and the server's memory over time.

    python -m benchmarks.space_load --users 8 --minutes 15     # starts `elysium demo` itself; needs the extra demo

Every user opens the sample, follows a box, tracks to the end, corrects a box and goes on, again and again. Users wait
for each other in the queue as visitors would. The last line of the output is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

BOX = (158, 58, 216, 199)  # of the bottle in the sample
CORRECTED = (160, 60, 214, 197)
EVERY_S = 10.0


def resident_mb(pid: int) -> float:
    """Read a process's resident memory (Linux)."""
    text = Path(f"/proc/{pid}/status").read_text()
    return int(re.findall(r"VmRSS:\s+(\d+)", text)[0]) / 1024


def visit(address: str, until: float, counts: dict[str, Any], lock: threading.Lock) -> None:
    """One user, until the time is over."""
    from gradio_client import Client

    while time.monotonic() < until:
        try:
            client = Client(address, verbose=False)
            client.predict(api_name="/open_sample")
            client.predict(0, *BOX, "bottle", "forward", api_name="/add_box")
            for step in ("track", "correct"):
                if step == "correct":
                    client.predict(0, 40, *CORRECTED, api_name="/correct")
                started = time.monotonic()
                client.predict(None, 0, api_name="/track")
                with lock:
                    counts["jobs"] += 1
                    counts["seconds"].append(time.monotonic() - started)
        except Exception as error:  # whatever a visitor would have met is counted
            with lock:
                counts["errors"].append(f"{type(error).__name__}: {error}"[:300])
            time.sleep(1)


def measure(address: str, pid: int, users: int, seconds: float) -> dict[str, Any]:
    """Let the users in, and look at the memory on the way."""
    counts: dict[str, Any] = {"jobs": 0, "seconds": [], "errors": []}
    lock, started = threading.Lock(), time.monotonic()
    threads = [
        threading.Thread(target=visit, args=(address, started + seconds, counts, lock), daemon=True)
        for _ in range(users)
    ]
    for thread in threads:
        thread.start()
    memory = []
    while any(thread.is_alive() for thread in threads) and time.monotonic() < started + 2 * seconds:
        memory.append((round(time.monotonic() - started), round(resident_mb(pid))))
        print(*memory[-1], f"{counts['jobs']} jobs, {len(counts['errors'])} errors", flush=True)
        time.sleep(EVERY_S)
    waits = sorted(counts["seconds"])
    return {
        "users": users,
        "seconds": round(time.monotonic() - started),
        "jobs": counts["jobs"],
        "errors": counts["errors"],
        "median_job_s": round(waits[len(waits) // 2], 1) if waits else None,
        "longest_job_s": round(waits[-1], 1) if waits else None,
        "memory_mb": memory,
    }


def main() -> int:
    """Start the demo, measure, end it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--users", type=int, default=8, help="users at the same time (default: 8)")
    parser.add_argument("--minutes", type=float, default=15.0, help="how long they begin new visits (default: 15)")
    parser.add_argument("--port", type=int, default=7871, help="port of the demo (default: 7871)")
    parser.add_argument("--model", help="checkpoint (default: the clone's)")
    args = parser.parse_args()
    command = [sys.executable, "-m", "tracking_elysium.cli", "demo", "--port", str(args.port)]
    command += ["--model", args.model] if args.model else []
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        line = server.stdout.readline() if server.stdout else ""
        if not line.startswith("Open "):
            raise SystemExit("the demo did not start")
        print(json.dumps(measure(line.split()[1], server.pid, args.users, args.minutes * 60)))
    finally:
        server.terminate()
        server.wait(30)
    return 0


if __name__ == "__main__":
    sys.exit(main())
