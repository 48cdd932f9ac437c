"""Recipes are read with these: YAML's plain values into dataclasses, from their home beside the data."""

from dataset_scripts.plain import did_you_mean, from_plain, load_yaml, override, read_yaml, to_plain

__all__ = ["did_you_mean", "from_plain", "load_yaml", "override", "read_yaml", "to_plain"]
