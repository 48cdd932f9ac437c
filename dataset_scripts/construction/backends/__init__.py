"""Grounders and trackers that exist, each behind the protocols of the pipeline; a file is imported when it is asked for."""
