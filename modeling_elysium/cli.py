"""`python -m modeling_elysium.cli`: the former name of `python -m tracking_elysium.cli`, the command `elysium`."""

import runpy

if __name__ == "__main__":
    runpy.run_module("tracking_elysium.cli", run_name="__main__", alter_sys=True)
