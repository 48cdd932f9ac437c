"""The types of the public packages, checked by mypy against what does not pass yet.

    python -m tests.house.types            # fails on an error that is not counted in type_errors.json
    python -m tests.house.types --write    # counts anew after errors were mended, or files moved; never more in all

A module that is not in the file passes mypy without an error, and stays so. The numbers may only get less.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path

from mypy import api

ROOT = Path(__file__).resolve().parents[2]
COUNTED = Path(__file__).with_name("type_errors.json")


def check_types() -> tuple[Counter[str], list[str]]:
    """Errors per file, and mypy's lines about them."""
    packages = sorted(path.parent.name for path in ROOT.glob("*_elysium/py.typed"))
    out, problem, status = api.run([*packages, "--config-file", "pyproject.toml", "--no-error-summary"])
    lines = [line for line in out.splitlines() if ": error:" in line]
    if problem or (status and not lines):
        raise SystemExit(problem or out)
    return Counter(line.split(":", 1)[0] for line in lines), lines


def main(arguments: list[str]) -> int:
    """Compare, or count anew."""
    found, lines = check_types()
    counted = Counter(json.loads(COUNTED.read_text()) if COUNTED.exists() else found)
    if arguments == ["--write"]:
        if found.total() > counted.total():
            print(f"{found.total()} errors, {counted.total()} before: mend the new ones.")
            return 1
        COUNTED.write_text(json.dumps(dict(sorted(found.items())), indent=2) + "\n")
        return 0
    worse = sorted(path for path in found if found[path] > counted[path])
    better = sorted(path for path in counted if found[path] < counted[path])
    for path in worse:
        print(*(line for line in lines if line.startswith(f"{path}:")), sep="\n")
        print(f"{path}: {found[path]} errors, {counted[path]} are counted in {COUNTED.name}: mend the new ones.")
    if better:
        print(f"fewer errors in {', '.join(better)}: run `python -m tests.house.types --write`.")
    return 1 if worse or better else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
