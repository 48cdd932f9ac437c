"""Grounders and trackers that exist, each behind the pipeline's protocols; imported when asked for."""
