#!/usr/bin/env bash
# Build the wheel, install it into a new environment and use it where no file of the clone can be imported.
# Usage: tests/external/try_wheel.sh [PYTHON]. Needs a package index; takes minutes.
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

"${1:-python3}" -m venv "$scratch/venv"
bin="$scratch/venv/bin"
mkdir "$scratch/clone" # a build writes beside setup.py
git -C "$root" ls-files -z --cached --others --exclude-standard |
    tar -C "$root" --null -T - -ch | tar -C "$scratch/clone" -x
"$bin/python" -m pip wheel -q --no-deps -w "$scratch/dist" "$scratch/clone"
"$bin/python" -m pip install -q "$scratch"/dist/elysium-*.whl
cp -RL "$root/elysium" "$scratch/checkpoint"
cp "$root/examples/sample.mp4" "$scratch/"
rm -rf "$scratch/clone"

cd "$scratch"
"$bin/elysium" --help >/dev/null
"$bin/elysium" track sample.mp4 --model checkpoint --box 158,58,216,199 --json tracks.json --output tracked.mp4 --visualize pictures
test -s tracked.mp4 && test -s pictures/kept_tokens.png
"$bin/python" - <<'PYTHON'
import json
from importlib.metadata import version
from importlib.resources import files

from transformers import pipeline

import tracking_elysium  # noqa: F401 - registers model, processor and pipeline

for package in ("processing_elysium", "modeling_elysium", "tracking_elysium"):
    assert files(package).joinpath("py.typed").is_file(), f"the wheel lacks {package}/py.typed"
assert json.load(open("tracks.json")), "no tracks"
frames = pipeline("video-tracking", model="checkpoint")("sample.mp4", expression="the bottle")
assert len(frames) == 64, len(frames)
print("elysium", version("elysium"), "works from its wheel")
PYTHON
