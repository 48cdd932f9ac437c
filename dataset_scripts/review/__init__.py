"""Reviewing trajectories by hand, as the paper's 500 held-out videos were (section 3).

`python -m dataset_scripts.review BUILD --log decisions.jsonl --reviewer NAME` opens a local page; every decision is
a line of the log, which `python -m dataset_scripts.elysium_track.publish --decisions` applies.
"""
