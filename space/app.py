"""The Space: the demo of the package, with the settings of the machine that Hugging Face lends.

    python space/app.py      # as `elysium demo`, on all addresses

Where to find the checkpoint: the variable ELYSIUM_MODEL (a folder or Hub id), else the folder `elysium` of the clone.
"""

import importlib.util
import os
import sys

if importlib.util.find_spec("spaces") is not None:  # ZeroGPU patches torch, so it comes first
    importlib.import_module("spaces")

from tracking_elysium.cli import main

if __name__ == "__main__":
    named = os.environ.get("ELYSIUM_MODEL")
    model = ["--model", named] if named else []
    sys.exit(main(["demo", "--host", "0.0.0.0", "--port", os.environ.get("PORT", "7860"), *model, *sys.argv[1:]]))
