"""Tracking and description as tasks of lmms-eval, for any model that writes boxes as text or JSON."""
