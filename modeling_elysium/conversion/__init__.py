"""Conversion of checkpoints: reading and writing files, the layouts, the plan of a conversion. Never carried."""
