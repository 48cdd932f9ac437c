"""The library's common tests of models and configurations, applied to ours; run by `run_common_tests.py`.

The mixins come from the source distribution of transformers, which the runner puts on the path: this file cannot be
imported without it, and its name keeps it out of the ordinary test run.
"""

from __future__ import annotations

import importlib
import unittest
from typing import Any

import torch
from transformers.models.auto import modeling_auto

from modeling_elysium import ElysiumConfig, ElysiumForConditionalGeneration, ElysiumModel
from tests.modeling.tiny_models import NUM_KEPT, VOCAB_SIZE, tiny_config, tiny_frames

modeling = importlib.import_module("transformers_common.test_modeling_common")
configuration = importlib.import_module("transformers_common.test_configuration_common")
generation = importlib.import_module("transformers_common.generation.test_utils")

# By these lists the tests tell a bare model from one with a head, which takes labels.
modeling_auto.MODEL_MAPPING_NAMES["elysium"] = ElysiumModel.__name__
modeling_auto.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES["elysium"] = ElysiumForConditionalGeneration.__name__


class ElysiumTester:
    """A tiny model and its inputs: one frame and some words in each of B rows."""

    # The comparison of attentions fills up smaller batches with random ids, among them placeholders without a frame.
    batch_size, num_words = 7, 7
    seq_length = NUM_KEPT + num_words
    hidden_size, num_hidden_layers, num_attention_heads = 48, 2, 4
    vocab_size, pad_token_id = VOCAB_SIZE, 0
    is_training = True

    def __init__(self, parent: Any) -> None:
        self.parent = parent
        # Low, since some tests cut the vocabulary at its end; past it where a test draws ids without frames.
        self.image_token_id = VOCAB_SIZE if "rope_scaling" in parent._testMethodName else 3

    def get_config(self) -> ElysiumConfig:
        """Two layers in each part, all widths that the tests look at on the configuration's parts."""
        return tiny_config(vision_config={"num_hidden_layers": 2}, image_token_id=self.image_token_id)

    def prepare_config_and_inputs_for_common(self) -> tuple[ElysiumConfig, dict[str, torch.Tensor]]:
        """Configuration and inputs of `forward`."""
        words = torch.randint(4, VOCAB_SIZE, (self.batch_size, self.num_words))
        frame = torch.full((self.batch_size, NUM_KEPT), self.image_token_id)
        ids = torch.cat([words[:, :2], frame, words[:, 2:]], dim=1)
        inputs = {
            "input_ids": ids,
            "attention_mask": torch.ones_like(ids),
            "pixel_values": tiny_frames(self.batch_size),
        }
        return self.get_config(), inputs

    prepare_config_and_inputs = prepare_config_and_inputs_for_common


class ElysiumModelTest(modeling.ModelTesterMixin, generation.GenerationTesterMixin, unittest.TestCase):
    """Model and generation tests of the library."""

    all_model_classes = (ElysiumModel, ElysiumForConditionalGeneration)
    additional_model_inputs = ("pixel_values",)
    _is_composite = True

    def setUp(self) -> None:
        self.model_tester = ElysiumTester(self)
        self.config_tester = configuration.ConfigTester(
            self, config_class=ElysiumConfig, has_text_modality=False, num_image_tokens=NUM_KEPT
        )

    def test_config(self) -> None:
        """All checks of the library's `ConfigTester`."""
        self.config_tester.run_common_tests()
