"""Baselines: trackers that are evaluated by the same runner as the model, `trackers.py` lists them."""
