"""Make the code files of a checkpoint folder in a clone links to the packages' files, so that there is one of each.

python -m train.checkpoint_code elysium tests/fixtures/drawn_shapes

On a system without symbolic links nothing is written; there the installed packages serve the folder.
"""

from __future__ import annotations

import argparse
import os
import re
from pathlib import Path

__all__ = ["CHECKPOINTS", "carried_code", "link_code", "main"]

ROOT = Path(__file__).resolve().parents[1]
# The default model, of real video, and the small one of drawn shapes, which tests run on.
CHECKPOINTS = (ROOT / "elysium", ROOT / "tests" / "fixtures" / "drawn_shapes")
# The files that transformers loads by name; each brings those that it imports.
ENTRANCES = (
    "processing_elysium/processing_elysium.py",
    "modeling_elysium/modeling_elysium.py",
    "tracking_elysium/pipeline_video_tracking.py",
)


def carried_code() -> dict[str, Path]:
    """File name -> file of all code that a whole checkpoint folder holds, found as the Hub's loader finds it."""
    found: dict[str, Path] = {}
    waiting = [ROOT / name for name in ENTRANCES]
    while waiting:
        path = waiting.pop()
        if path.name in found:
            if found[path.name] != path:
                raise ValueError(
                    f"{path} and {found[path.name]} have one name; a checkpoint folder can hold only one."
                )
            continue
        found[path.name] = path
        needed = re.findall(r"^\s*from\s+\.(\S+)\s+import", path.read_text(encoding="utf-8"), re.MULTILINE)
        waiting += [path.with_name(f"{name}.py") for name in needed]
    return found


def link_code(folder: Path) -> list[str]:
    """Replace the code files of a folder by links.

    Args:
        folder: a checkpoint folder inside the clone.

    Returns:
        Names of the links.

    Raises:
        OSError: the system has no symbolic links; the folder is as it was.
    """
    code = carried_code()
    start = folder.resolve()
    trial = folder / ".link"
    trial.unlink(missing_ok=True)
    trial.symlink_to("config.json")
    trial.unlink()
    for path in folder.glob("*.py"):
        path.unlink()
    for name, source in sorted(code.items()):
        (folder / name).symlink_to(os.path.relpath(source, start))
    return sorted(code)


def main(arguments: list[str] | None = None) -> None:
    """Entry point of the command line."""
    parser = argparse.ArgumentParser(prog="python -m train.checkpoint_code", description=__doc__.splitlines()[0])
    parser.add_argument("folders", type=Path, nargs="*", default=CHECKPOINTS, help="checkpoint folders (both)")
    for folder in parser.parse_args(arguments).folders:
        try:
            print(f"{len(link_code(folder))} links in {folder}")
        except OSError as error:
            print(f"{folder} is unchanged: no symbolic links here ({error}); the installed packages serve it.")


if __name__ == "__main__":
    main()
