"""The library's common tests of processors, applied to ours; run by `run_common_tests.py`, see `common_model.py`."""

from __future__ import annotations

import importlib
import unittest
from typing import Any

from PIL import Image

from processing_elysium import ElysiumImageProcessor, ElysiumProcessor
from tests.processing.tiny_processor import tiny_tokenizer

processing = importlib.import_module("transformers_common.test_processing_common")
image_processing = importlib.import_module("transformers_common.test_image_processing_common")

SIZE = {"height": 28, "width": 28}


class ElysiumProcessorTest(processing.ProcessorTesterMixin, unittest.TestCase):
    """Processor tests of the library."""

    processor_class = ElysiumProcessor
    videos_input_name = "pixel_values"  # frames of videos and images are one kind of input

    @classmethod
    def setUpClass(cls) -> None:
        """The library's pictures are on the Hub; ours are written here."""
        super().setUpClass()
        paths = [f"{cls.tmpdirname}/{number}.png" for number in range(2)]
        for path in paths:
            Image.new("RGB", (40, 30), "red").save(path)
        processing.MODALITY_INPUT_DATA["images"] = paths

    @classmethod
    def _setup_tokenizer(cls) -> Any:
        return tiny_tokenizer()

    @classmethod
    def _setup_image_processor(cls) -> Any:
        return ElysiumImageProcessor(size=SIZE)

    @classmethod
    def _setup_test_attributes(cls, processor: Any) -> None:
        """No `video_token`: the library would write one into a text without passing a video."""
        cls.image_token = processor.image_token

    @staticmethod
    def prepare_processor_dict() -> dict[str, Any]:
        """Fields of the processor; few tokens per frame, so that the lengths of the library's texts hold."""
        return {"num_image_tokens": 4}


class ElysiumImageProcessingTester(image_processing.ImageProcessingTester):
    """Sizes of the library's random images, and our class, which it would look for by the name of a folder."""

    def __init__(self, parent: Any, **kwargs: Any) -> None:
        super().__init__(parent, size=SIZE, do_resize=True, do_normalize=True, do_convert_rgb=True, **kwargs)

    def _get_image_processing_classes(self) -> dict[str, type]:
        return {"pil": ElysiumImageProcessor}


class ElysiumImageProcessingTest(image_processing.ImageProcessingTestMixin, unittest.TestCase):
    """Image processor tests of the library."""

    image_processor_tester_class = ElysiumImageProcessingTester
