"""A recipe so small that a stage takes a second; and where the shipped ones are."""

from pathlib import Path

from train.config import Recipe, SourceConfig, StageConfig
from train.miniature.config import BuildConfig, TowerConfig

OTHERS = ("ablation", "small", "small-gpu")  # of train.ablation and train.small, with tests of their own
FOLDER = Path(__file__).resolve().parents[2] / "train" / "recipes"
SHIPPED = [path for path in sorted(FOLDER.glob("*.yaml")) if path.stem not in OTHERS]  # that train.sft reads

BUILD = BuildConfig(
    vocab_size=1536,
    vision={
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "image_size": 56,
        "patch_size": 14,
        "projection_dim": 16,
    },
    text={
        "hidden_size": 24,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "tie_word_embeddings": True,
    },
    elysium={"num_image_tokens": 6, "selector_scorer": "mlp", "tie_word_embeddings": True},
)
TRACKING = {"sot": 1.0, "rsot": 1.0, "video_reg": 1.0}
BATCH = 3
# Plain gradient steps: Adam would hide a wrong scale of the loss, and make much of gradients that should be zero.
PLAIN = {"optim": "sgd", "learning_rate": 0.05, "max_grad_norm": 1e9}


def synthetic(tasks=None, limit=None, **options):
    options = {"size": 56, "interval": [1, 3], **options}
    return SourceConfig(source="synthetic", tasks=tasks or TRACKING, limit=limit, options=options)


def stage(batch_size=BATCH, tasks=None, arguments=None, **changes):
    fields = {
        "name": "s",
        "num_frames": (2, 3),
        "sources": [synthetic(tasks)],
        "arguments": {
            "per_device_train_batch_size": batch_size,
            "max_steps": 2,
            "learning_rate": 1e-2,
            "report_to": [],
            **(arguments or {}),
        },
    }
    return StageConfig(**{**fields, **changes})


def recipe(*stages, **changes):
    fields = {"workers": 0, "threads": 1, "build": BUILD, "stages": list(stages) or [stage()]}
    return Recipe(**{**fields, **changes})


TOWER = TowerConfig(steps=4, batch_size=4, warmup_steps=1, save_every=2, align_steps=2)
