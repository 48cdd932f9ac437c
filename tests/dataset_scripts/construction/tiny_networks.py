"""Detectors and segmenters of transformers, tiny and with random weights, written as checkpoint folders."""

import json

import torch

from ...evaluate_metrics.test_baselines import tiny_owlvit, tiny_sam2

PHRASES = ["a red box", "the dog", "a big tree"]
CLIP_TEXT = {
    "hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2,
    "max_position_embeddings": 32, "projection_dim": 32,
}  # fmt: skip


def write_owlvit(folder):
    tiny_owlvit(folder)


def clip_tokenizer(folder):
    """A tokenizer of letters, kept in the folder."""
    from transformers import CLIPTokenizer

    letters = [chr(i) for i in range(97, 123)]
    vocabulary = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>", "!"]
    (folder / "vocab.json").write_text(json.dumps({token: i for i, token in enumerate(vocabulary)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    return CLIPTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"), model_max_length=32)


def write_owlv2(folder):
    from transformers import Owlv2Config, Owlv2ForObjectDetection, Owlv2Processor
    from transformers.models.owlv2 import image_processing_pil_owlv2 as images

    tokenizer = clip_tokenizer(folder)
    tokenizer.model_max_length = 16
    Owlv2Processor(images.Owlv2ImageProcessorPil(size={"height": 32, "width": 32}), tokenizer).save_pretrained(folder)
    tower = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    torch.manual_seed(0)
    config = Owlv2Config(
        text_config={**tower, "vocab_size": tokenizer.vocab_size, "max_position_embeddings": 16},
        vision_config={**tower, "image_size": 32, "patch_size": 16}, projection_dim=32,
    )  # fmt: skip
    Owlv2ForObjectDetection(config).save_pretrained(folder)


def _bert_words(folder):
    words = list(dict.fromkeys(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ".", *" ".join(PHRASES).split()]))
    (folder / "vocab.txt").write_text("\n".join(words))
    return words


SWIN = {
    "model_type": "swin", "embed_dim": 8, "depths": [1, 1, 1, 1], "num_heads": [1, 1, 2, 2], "window_size": 2,
    "image_size": 64, "out_features": ["stage2", "stage3", "stage4"],
}  # fmt: skip
DINO = {
    "d_model": 32, "encoder_layers": 1, "encoder_ffn_dim": 32, "decoder_layers": 2, "decoder_ffn_dim": 32,
    "encoder_attention_heads": 2, "decoder_attention_heads": 2, "num_queries": 5, "num_feature_levels": 4,
    "disable_custom_kernels": True, "max_text_len": 16,
}  # fmt: skip


def _write_dino(folder, config_class, model_class):
    from transformers import BertTokenizer, GroundingDinoProcessor
    from transformers.models.grounding_dino import image_processing_pil_grounding_dino as images

    words = _bert_words(folder)
    tokenizer = BertTokenizer(str(folder / "vocab.txt"))
    size = {"shortest_edge": 64, "longest_edge": 96}
    GroundingDinoProcessor(images.GroundingDinoImageProcessorPil(size=size), tokenizer).save_pretrained(folder)
    bert = {
        "model_type": "bert", "vocab_size": len(words), "hidden_size": 32, "num_hidden_layers": 1,
        "num_attention_heads": 2, "intermediate_size": 32,
    }  # fmt: skip
    torch.manual_seed(0)
    model_class(config_class(backbone_config=SWIN, text_config=bert, **DINO)).save_pretrained(folder)


def write_grounding_dino(folder):
    from transformers import GroundingDinoConfig, GroundingDinoForObjectDetection

    _write_dino(folder, GroundingDinoConfig, GroundingDinoForObjectDetection)


def write_mm_grounding_dino(folder):
    from transformers import MMGroundingDinoConfig, MMGroundingDinoForObjectDetection

    _write_dino(folder, MMGroundingDinoConfig, MMGroundingDinoForObjectDetection)


def sam3_vision():
    """A tower of 56 x 56 pixels: 4 x 4 patches, and maps of 16, 8 and 4 cells a side."""
    vit = {
        "model_type": "sam3_vit_model", "hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2,
        "num_attention_heads": 2, "image_size": 56, "patch_size": 14, "window_size": 2, "global_attn_indexes": [1],
        "pretrain_image_size": 28,
    }  # fmt: skip
    return {
        "model_type": "sam3_vision_model", "backbone_config": vit, "fpn_hidden_size": 128,
        "backbone_feature_sizes": [[16, 16], [8, 8], [4, 4]],
    }  # fmt: skip


def sam3_detector_config(vocabulary):
    from transformers import Sam3Config

    part = {"hidden_size": 128, "num_attention_heads": 2, "intermediate_size": 32}
    return Sam3Config(
        vision_config=sam3_vision(),
        text_config={"model_type": "clip_text_model", **CLIP_TEXT, "vocab_size": vocabulary},
        geometry_encoder_config={**part, "num_layers": 1}, detr_encoder_config={**part, "num_layers": 1},
        detr_decoder_config={**part, "num_layers": 1, "num_queries": 5},
        mask_decoder_config={"hidden_size": 128, "num_attention_heads": 2},
    )  # fmt: skip


def write_sam3(folder):
    from transformers import Sam3Model

    tokenizer = clip_tokenizer(folder)
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    Sam3Model(sam3_detector_config(tokenizer.vocab_size)).save_pretrained(folder)


MEMORY = {
    "memory_attention_num_layers": 1, "memory_attention_rope_feat_sizes": [4, 4], "memory_fuser_intermediate_dim": 16,
}  # fmt: skip


def sam3_tracker_config():
    from transformers import Sam3TrackerVideoConfig

    return Sam3TrackerVideoConfig(
        vision_config=sam3_vision(), image_size=56,
        prompt_encoder_config={"hidden_size": 128, "image_size": 56, "patch_size": 14},
        mask_decoder_config={"hidden_size": 128, "mlp_dim": 16, "iou_head_hidden_dim": 16, "num_attention_heads": 2},
        memory_attention_hidden_size=128, memory_attention_feed_forward_hidden_size=16, memory_encoder_hidden_size=128,
        mask_downsampler_embed_dim=128, memory_fuser_embed_dim=128, **MEMORY,
    )  # fmt: skip


def write_sam3_tracker(folder):
    from transformers import Sam3TrackerVideoModel

    torch.manual_seed(0)
    Sam3TrackerVideoModel(sam3_tracker_config()).save_pretrained(folder)


def write_sam3_video(folder):
    """The whole of SAM 3, as it is published: detector and tracker in one checkpoint."""
    from transformers import Sam3VideoConfig, Sam3VideoModel

    tokenizer = clip_tokenizer(folder)
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    detector, tracker = sam3_detector_config(tokenizer.vocab_size), sam3_tracker_config()
    Sam3VideoModel(Sam3VideoConfig(detector_config=detector, tracker_config=tracker)).save_pretrained(folder)


def write_sam2(folder):
    tiny_sam2().save_pretrained(folder)


def write_edgetam(folder):
    """EdgeTAM's memory on a tower of SAM 2, which its configuration takes; its own tower needs timm."""
    from transformers import EdgeTamVideoConfig, EdgeTamVideoModel

    of_sam2 = tiny_sam2().config
    torch.manual_seed(0)
    config = EdgeTamVideoConfig(
        vision_config=of_sam2.vision_config.to_dict(), image_size=64,
        prompt_encoder_config={"hidden_size": 128, "image_size": 64, "patch_size": 16},
        mask_decoder_config={"hidden_size": 128, "mlp_dim": 16, "iou_head_hidden_dim": 16, "num_attention_heads": 2},
        memory_attention_hidden_size=128, memory_attention_mlp_hidden_size=16, memory_attention_rope_k_sizes=[2, 2],
        perceiver_resampler_num_latents=4, perceiver_resampler_num_latents_2d=4, memory_encoder_hidden_size=128,
        mask_downsampler_embed_dim=128, memory_fuser_embed_dim=128, **MEMORY,
    )  # fmt: skip
    EdgeTamVideoModel(config).save_pretrained(folder)
