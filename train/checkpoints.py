"""Checkpoints that are whole or not there: written beside, then renamed; old ones go only after that.

A process that is killed while it saves leaves a folder `.part` that nobody reads, and the checkpoint before it.
"""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

from transformers import Trainer
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR, rotate_checkpoints

__all__ = ["AtomicCheckpoints", "newest_checkpoint"]

PART = ".part"
STATE = "trainer_state.json"


def newest_checkpoint(output: Path) -> str | None:
    """The last whole checkpoint of a stage, or None.

    Args:
        output: folder of a stage.
    """
    found = [
        path
        for path in output.glob(f"{PREFIX_CHECKPOINT_DIR}-*")
        if re.fullmatch(rf"{PREFIX_CHECKPOINT_DIR}-\d+", path.name) and _reads(path / STATE)
    ]
    return str(max(found, key=lambda path: int(path.name.rsplit("-", 1)[1]))) if found else None


def _reads(path: Path) -> bool:
    """Whether the file is whole JSON; a foreign or torn folder is passed over."""
    try:
        json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return True


class AtomicCheckpoints(Trainer):
    """A `Trainer` whose checkpoints appear at once; everything else is the library's."""

    _writes_to: str | None = None

    def _get_output_dir(self, trial: Any) -> str:
        """The folder that holds checkpoints; another one while a checkpoint is written."""
        return self._writes_to or super()._get_output_dir(trial=trial)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        """Write the checkpoint into `.part`, then give it its name, then remove those that are too many.

        Raises:
            OSError: the disk is full; earlier checkpoints are as they were.
        """
        run = Path(super()._get_output_dir(trial=trial))
        part, name = run / PART, f"{PREFIX_CHECKPOINT_DIR}-{self.state.global_step}"
        first, limit = self.args.should_save, self.args.save_total_limit
        if first:
            shutil.rmtree(part, ignore_errors=True)  # what a killed run left
        self.accelerator.wait_for_everyone()
        self._writes_to, self.args.save_total_limit = str(part), None
        try:
            super()._save_checkpoint(model, trial)
        except OSError as error:
            if error.errno == errno.ENOSPC and first:
                shutil.rmtree(part, ignore_errors=True)
                raise OSError(
                    error.errno,
                    f"the disk is full: {name} was not written, earlier checkpoints are whole. Make room, or save "
                    "less with save_total_limit or save_steps; then run the same command again",
                    str(run),
                ) from error
            raise
        finally:
            self._writes_to, self.args.save_total_limit = None, limit
        self.accelerator.wait_for_everyone()  # every process has written its share
        if self.state.best_model_checkpoint:
            self.state.best_model_checkpoint = str(run / Path(self.state.best_model_checkpoint).name)
        if self.state.best_global_step == self.state.global_step:
            self.state.best_model_checkpoint = str(run / name)
        if first:
            self.state.save_to_json(str(part / name / STATE))
            shutil.rmtree(run / name, ignore_errors=True)
            os.replace(part / name, run / name)
            part.rmdir()
            rotate_checkpoints(str(run), limit, self.state.best_model_checkpoint)
        self.accelerator.wait_for_everyone()
