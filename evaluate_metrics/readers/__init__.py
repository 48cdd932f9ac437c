"""Readers: one file per benchmark, from its folder as it is on disk to what is evaluated. `tasks.py` lists them."""
