"""The `video-tracking` pipeline."""

from transformers import Pipeline


class VideoTrackingPipeline(Pipeline):
    """Tracks objects in videos."""
