"""What a report says about where its numbers come from."""

from __future__ import annotations

import datetime
import os
import platform
import subprocess
from pathlib import Path

import torch
import transformers

ROOT = Path(__file__).resolve().parents[2]


def provenance(device: str = "cpu") -> str:
    """Date, commit, hardware and versions of this run, on one line without a full stop.

    Args:
        device: that the numbers were measured on; `"cuda"` names the GPU too.
    """
    hardware = f"{os.cpu_count()} CPU cores ({_cpu()}), {torch.get_num_threads()} threads"
    if device.startswith("cuda"):
        hardware = f"{torch.cuda.get_device_name()}, {hardware}"
    versions = f"torch {torch.__version__}, transformers {transformers.__version__}"
    return (
        f"{datetime.date.today().isoformat()}, commit {_commit()}, {hardware}, Python {platform.python_version()}, "
        f"{versions}"
    )


def _commit() -> str:
    try:
        done = subprocess.run(
            ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False
        )
    except FileNotFoundError:  # git itself
        return "unknown"
    return done.stdout.strip() or "unknown"


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    names = [line for line in info.read_text().splitlines() if line.startswith("model name")] if info.exists() else []
    return names[0].split(":", 1)[1].strip() if names else platform.processor() or platform.machine()
