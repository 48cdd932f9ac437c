"""Reinforcement learning on the model's own answers (GRPO): a recipe, TRL's trainer, rewards of boxes.

    python -m train.grpo train/recipes/grpo/tiny.yaml --output runs/grpo

For every clip the model writes several answers; those that are better than their group's mean become likelier (Shao et
al., "DeepSeekMath", arXiv 2402.03300). The same command resumes an interrupted run.
"""

from __future__ import annotations

import argparse
import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import torch
import yaml
from PIL import Image
from transformers import set_seed
from trl import GRPOConfig, GRPOTrainer

from modeling_elysium import ElysiumForConditionalGeneration
from processing_elysium import ElysiumProcessor
from processing_elysium.prompts import Task

from .checkpoints import AtomicCheckpoints, newest_checkpoint
from .config import Recipe, SourceConfig, StageConfig, load_yaml
from .data import ConversationSource, conversation
from .engines import name_layers
from .finish import FINISHED, RECIPE, push_folder, save_model, stage_metrics, write_card
from .greedy import LOGGED, GreedyAnswers
from .miniature.cpu import prepare_cpu
from .parts import check_train, freeze_all_but
from .plain import to_plain
from .rewards import REWARDS, Truth

__all__ = ["GrpoRecipe", "QuestionSource", "main", "run_grpo"]

ANSWERED_WITH_BOXES = (Task.SOT, Task.RSOT, Task.REC)
DEFAULT_LENGTH = 256  # tokens of an answer


@dataclass(kw_only=True)
class GrpoRecipe:
    """Everything one run needs.

    Attributes:
        seed: of the data order and of the answers that are drawn.
        threads: CPU threads; 0 leaves PyTorch's choice.
        model: folder or Hub id to start from.
        train: parts that learn, see `train.parts`; all at one rate.
        sources: mixture of clips; tasks are those that are answered with boxes (sot, rsot, rec).
        eval_sources: mixture that the greedy answers are judged on before and after; empty for none.
        eval_items: clips of it.
        num_frames: fewest and most frames of a clip.
        rewards: weight of each reward: `iou`, `format`, `presence`, see `train.rewards`.
        arguments: fields of `trl.GRPOConfig`, such as max_steps, num_generations, learning_rate, beta, temperature,
            max_completion_length.
    """

    seed: int = 0
    threads: int = 0
    model: str
    train: dict[str, float] | list[str] = field(default_factory=lambda: ["language_model"])
    sources: list[SourceConfig]
    eval_sources: list[SourceConfig] = field(default_factory=list)
    eval_items: int = 64
    num_frames: tuple[int, int] = (4, 4)
    rewards: dict[str, float] = field(default_factory=lambda: {"iou": 1.0, "format": 0.2, "presence": 0.2})
    arguments: dict[str, Any]

    def __post_init__(self) -> None:
        self.train = check_train(self.train)
        if set(self.train.values()) != {1.0}:
            raise ValueError(f"train is {self.train}; here all parts learn at one rate: list them, or give each 1.")
        if unknown := sorted(set(self.rewards) - set(REWARDS)):
            raise ValueError(f"rewards names {unknown}; give weights of {sorted(REWARDS)}.")
        if not self.rewards or not all(weight > 0 for weight in self.rewards.values()):
            raise ValueError(f"rewards is {self.rewards}; give one reward or more a weight above 0, drop the others.")
        for source in [*self.sources, *self.eval_sources]:
            if wrong := sorted(set(source.tasks) - {task.value for task in ANSWERED_WITH_BOXES}):
                raise ValueError(
                    f"source {source.source!r}: tasks names {wrong}, which no reward judges; give one or more of "
                    f"{[task.value for task in ANSWERED_WITH_BOXES]}."
                )

    def stage(self) -> StageConfig:
        """The same as a stage, which data and cards are made of."""
        return StageConfig(
            name="grpo",
            train=self.train,
            sources=self.sources,
            num_frames=self.num_frames,
            turns=1,
            eval_sources=self.eval_sources,
            eval_items=self.eval_items,
            arguments=self.arguments,
        )


@dataclass(frozen=True)
class QuestionSource:
    """Item number -> a question about one object of a clip, its frames, and what is known about the object.

    Attributes:
        clips: gives the clips; of batches of one item.
        processor: writes the question.
        seed: draws object, task and wording.
    """

    clips: ConversationSource
    processor: ElysiumProcessor
    seed: int

    def __getitem__(self, item: int) -> dict[str, Any]:
        """`prompt` (messages), its true `answer` (a message), `images` (F of them) and `truth` of an item.

        Raises:
            ValueError: no object of the clip can be asked about.
        """
        number, clip = self.clips.clip(item, 0)
        record, rng = clip.record, np.random.default_rng([self.seed, item, 8])
        weights = self.clips.configs[number].tasks
        shares = np.array(list(weights.values())) / sum(weights.values())
        for name in rng.choice(list(weights), size=len(weights), replace=False, p=shares):
            for place in rng.permutation(len(record.objects)):
                track = record.objects[int(place)]
                try:
                    messages = conversation(
                        replace(record, objects=[track], messages=[]), {str(name): 1.0}, rng, self.processor, turns=1
                    )
                except ValueError:  # this task cannot be asked of this object
                    continue
                truth = Truth(
                    Task(str(name)), track.clipped_boxes, np.asarray(track.absent), self.processor.box_rounding
                )
                return {
                    "prompt": messages[:-1],
                    "answer": messages[-1],
                    "images": [Image.fromarray(np.asarray(frame)) for frame in clip.frames],
                    "truth": truth,
                }
        raise ValueError(
            f"record {record.id!r}: none of the tasks {sorted(weights)} can be asked of its {record.num_frames} "
            f"frame(s) and {len(record.objects)} object(s)."
        )

    def dataset(self, num_items: int) -> datasets.Dataset:
        """The first items as the `datasets.Dataset` that TRL asks for; made when read."""

        def render(batch: dict[str, list[int]]) -> dict[str, list[Any]]:
            rows = [self[int(item)] for item in batch["item"]]
            return {key: [row[key] for row in rows] for key in rows[0]}

        return datasets.Dataset.from_dict({"item": np.arange(num_items)}).with_transform(render)


class ElysiumGrpoTrainer(AtomicCheckpoints, GRPOTrainer):
    """TRL's `GRPOTrainer`; checkpoints appear at once."""


def grpo_arguments(recipe: GrpoRecipe, output: Path, use_cpu: bool) -> GRPOConfig:
    """Make the `GRPOConfig`: our defaults, then the recipe's `arguments`.

    Raises:
        ValueError: an argument is unknown, or `GRPOConfig` refuses its value.
    """
    defaults = {
        "num_generations": 8,
        "per_device_train_batch_size": 8,
        "max_completion_length": DEFAULT_LENGTH,
        "beta": 0.0,
        "save_steps": 50,
        "save_total_limit": 1,
        "logging_steps": 1,
        "report_to": [],
        "bf16": not use_cpu,
        "activation_checkpointing": False,
        "dataloader_pin_memory": not use_cpu,
        "log_completions": False,
    }
    fixed = {"output_dir": str(output), "seed": recipe.seed, "use_cpu": use_cpu, "remove_unused_columns": False}
    fixed["reward_weights"] = list(recipe.rewards.values())
    for name in sorted(set(recipe.arguments) & set(fixed)):
        raise ValueError(f"arguments may not set {name!r}; give --output or --cpu, or the recipe's seed and rewards.")
    try:
        return GRPOConfig(**{**defaults, **recipe.arguments, **fixed})
    except (TypeError, ValueError) as error:
        raise ValueError(f"arguments: {error}; they are the fields of trl.GRPOConfig.") from error


def _clips_of_a_run(arguments: GRPOConfig) -> int:
    """Clips that all steps ask about; each is asked about `num_generations` times in a round of answers."""
    per_round, steps = arguments.generation_batch_size or 1, arguments.steps_per_generation or 1
    rounds = -(-arguments.max_steps * arguments.gradient_accumulation_steps // steps)
    return max(1, rounds) * (per_round // (arguments.num_generations or 1))


def run_grpo(recipe: GrpoRecipe, output: Path, use_cpu: bool = True) -> Path:
    """Train a recipe; the newest checkpoint is resumed.

    Args:
        recipe: what to train.
        output: folder of checkpoints.
        use_cpu: whether to stay on the CPU.

    Returns:
        The folder of the finished model, `output/final`.
    """
    finished = output / FINISHED
    if (finished / "config.json").exists():
        return finished
    if recipe.threads:
        torch.set_num_threads(recipe.threads)
    arguments = grpo_arguments(recipe, output, use_cpu)
    set_seed(recipe.seed)
    model = ElysiumForConditionalGeneration.from_pretrained(recipe.model, dtype=torch.float32)
    name_layers(model)
    processor = ElysiumProcessor.from_pretrained(recipe.model)
    freeze_all_but(model, recipe.train)
    stage = recipe.stage()
    questions = QuestionSource(ConversationSource(stage, 1, recipe.seed, processor), processor, recipe.seed)
    trainer = ElysiumGrpoTrainer(
        model=model,
        args=arguments,
        reward_funcs=[REWARDS[name] for name in recipe.rewards],
        train_dataset=questions.dataset(_clips_of_a_run(arguments)),
        processing_class=processor,
    )
    if recipe.eval_sources:
        clips = ConversationSource(stage, 1, recipe.seed, processor, evaluation=True)
        source = QuestionSource(clips, processor, recipe.seed)
        held_out = [source[item] for item in range(recipe.eval_items)]
        length = arguments.max_completion_length or DEFAULT_LENGTH
        trainer.add_callback(GreedyAnswers(trainer, held_out, processor, length))
    trainer.train(resume_from_checkpoint=newest_checkpoint(output))
    state = trainer.accelerator.get_state_dict(trainer.model_wrapped)
    metrics = stage_metrics(trainer, stage)
    greedy = [entry[LOGGED] for entry in trainer.state.log_history if LOGGED in entry]
    if greedy:
        metrics["evaluation"] = {"mean_iou_before": greedy[0], "mean_iou": greedy[-1], "clips": recipe.eval_items}
    if trainer.accelerator.is_main_process:

        def add(folder: Path) -> None:
            write_card(folder, model, Recipe(model=recipe.model, stages=[stage]), metrics)
            (folder / RECIPE).write_text(yaml.safe_dump(to_plain(recipe), sort_keys=False), encoding="utf-8")

        save_model(model, processor, finished, state, add)
    trainer.accelerator.wait_for_everyone()
    return finished


def main(arguments: list[str] | None = None) -> None:
    """Entry point of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m train.grpo",
        description="Let a trained model answer, and make its better answers likelier (GRPO). The same command "
        "resumes an interrupted run.",
        epilog="Example: python -m train.grpo train/recipes/grpo/tiny.yaml --output runs/grpo",
    )
    parser.add_argument("recipe", type=Path, help="YAML recipe, see train/recipes/grpo")
    parser.add_argument("--output", type=Path, required=True, help="folder for checkpoints and the finished model")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="change a key of the recipe")
    parser.add_argument("--push-to-hub", metavar="ORG/NAME", help="upload the finished model to this (private) repo")
    parser.add_argument("--cpu", action="store_true", help="use the CPU even where there is a GPU")
    options = parser.parse_args(arguments)
    try:
        recipe = load_yaml(GrpoRecipe, options.recipe, options.set)
    except ValueError as error:
        raise SystemExit(str(error)) from error
    use_cpu = options.cpu or not torch.cuda.is_available()
    if use_cpu:
        prepare_cpu()
    final = run_grpo(recipe, options.output, use_cpu)
    if int(os.environ.get("RANK", "0")) == 0:
        print(f"finished: {final}")
        if options.push_to_hub:
            print(f"uploaded: {push_folder(final, options.push_to_hub)}")


if __name__ == "__main__":
    main()
