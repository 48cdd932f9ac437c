"""TRL's supervised trainer with a loss on answers only, learning rates by part, planned batches, and more to log."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch.nn import functional
from torch.utils.data import DataLoader
from trl import SFTTrainer

from .batching import BrokenItems, PlannedBatches
from .callbacks import FeedProgress, StepClock
from .checkpoints import AtomicCheckpoints
from .collator import IGNORED, TASKS
from .config import StageConfig
from .data import ConversationSource
from .engines import with_a_frame
from .estimate import Item, Shape, step_flops
from .lengths import check_context
from .meters import Means, Throughput, spread
from .objective import AnswerLoss, answer_loss
from .optimizer import MuonAdamW, is_hidden_matrix
from .parts import part_of

__all__ = ["ElysiumTrainer"]

TASK_LOSSES = tuple(f"loss_{task}" for task in TASKS)
MEANS = (*TASK_LOSSES, "box_iou", "mean_token_accuracy")


class ElysiumTrainer(AtomicCheckpoints, SFTTrainer):
    """`SFTTrainer` that computes logits of labeled tokens only and gives each part of the model its learning rate.

    TRL's fused head visits every position, and most of ours are visual tokens, prompts and padding. TRL packs and
    leaves out padding for text only; for conversations with frames, batches of similar length (`feed`) save it.

    Args:
        stage: its `train` (a factor per part), `muon_learning_rate`, `feed` and `loss` are read.
        items: the stage's items; needed where `feed` plans batches by length.
        **kwargs: passed to `SFTTrainer`.

    Raises:
        ValueError: the clips do not fit the language model's context, or the loss needs numbers that the tokenizer
            does not write one by one.
    """

    def __init__(self, *, stage: StageConfig, items: ConversationSource | None = None, **kwargs: Any) -> None:
        self.stage, self.items = stage, items
        super().__init__(**kwargs)
        held: Any = self.model
        context = getattr(held.config.text_config, "max_position_embeddings", None)
        collator: Any = self.data_collator
        check_context(collator.processor, stage, context)
        self.numbers = collator.numbers
        if self.numbers is None and (stage.loss.iou_weight or stage.loss.number_weight != 1):
            raise ValueError(
                f"stage {stage.name!r}: the loss looks at the numbers of boxes, and this tokenizer joins them with "
                "other text; drop `loss`, or take a tokenizer that writes numbers or digits apart."
            )
        self.means = {mode: Means(MEANS, self.args.device) for mode in ("train", "eval")}
        self.shape = Shape.of(held.config)
        self.throughput = Throughput(self.args.device)
        self.add_callback(StepClock(self.throughput))
        self.broken = BrokenItems(stage.feed.max_broken)
        self.kept = torch.zeros(held.config.num_patches, device=self.args.device)
        for name, module in held.named_modules():
            if name.split(".")[-1] == "selector":
                module.register_forward_hook(self._count_kept)
        self.batches: PlannedBatches | None = None
        if stage.feed.planned:
            assert items is not None, "feed plans batches of items"
            workers, batch_size = self.args.dataloader_num_workers, self.args.per_device_train_batch_size
            self.batches = PlannedBatches(items, collator, batch_size, self.args.process_index, workers)
            self.args.ignore_data_skip = True  # the batches go on by themselves
            self.add_callback(FeedProgress(self.batches, self.args.process_index))

    # ----------------------------------------------------------------------------------------------------------
    # data
    # ----------------------------------------------------------------------------------------------------------
    def get_train_dataloader(self) -> DataLoader:
        """The library's, or one of planned batches, which are this process' already."""
        if self.batches is None:
            return super().get_train_dataloader()
        workers = self.args.dataloader_num_workers
        return DataLoader(
            self.batches,
            batch_size=None,
            num_workers=workers,
            pin_memory=self.args.dataloader_pin_memory,
            prefetch_factor=self.args.dataloader_prefetch_factor if workers else None,
        )

    def get_batch_samples(self, epoch_iterator: Iterator[Any], num_batches: int, device: torch.device) -> Any:
        """The library's, with the time that it takes, what was skipped, and where the data is.

        Raises:
            ValueError: more items are broken than `feed` allows; the message lists them.
        """
        self.throughput.begin()
        batches, count = super().get_batch_samples(epoch_iterator, num_batches, device)
        self.throughput.has_data()
        for batch in batches:
            info = batch["info"]
            self.broken = self.broken.count(info["samples"], info["skipped"])
            if self.batches is not None:
                self.batches.took(info["place"])
            self.throughput.add(info, batch["input_ids"].numel(), self._flops(batch))
        return batches, count

    def _flops(self, batch: dict[str, Any]) -> float:
        """Operations that the model needs for a batch: nothing run twice, no padding."""
        labeled, rows = int((batch["labels"] != IGNORED).sum()), len(batch["labels"])
        items = [
            Item(batch["info"]["frames"] / rows, tokens, labeled / rows)
            for tokens in batch["attention_mask"].sum(1).tolist()
        ]
        lora = self.stage.lora is not None
        return sum(step_flops(self.shape, item, self.stage.train, False, lora) for item in items)

    # ----------------------------------------------------------------------------------------------------------
    # loss
    # ----------------------------------------------------------------------------------------------------------
    def compute_loss(
        self,
        model: torch.nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> Any:
        """Loss on the answers, mean over the labeled tokens of the whole (accumulated, distributed) batch.

        Args:
            model: the model, possibly wrapped for distributed training.
            inputs: a collated batch, see `ConversationCollator`.
            return_outputs: also return the model's outputs (the logits before labeled tokens only).
            num_items_in_batch: labeled tokens of all micro-batches and devices; None counts those of this batch.
        """
        rest = with_a_frame(inputs, self.accelerator.unwrap_model(model).config)
        names = ("labels", "task_ids", "box_places", "box_scales", "info")
        apart: dict[str, Any] = {name: rest.get(name) for name in names}
        rest = {name: value for name, value in rest.items() if name not in apart}
        asked = apart["labels"][:, 1:] != IGNORED
        labels = apart["labels"][:, 1:][asked]
        # The model picks the positions itself: outside of its forward, sharded weights are not there.
        outputs = model(**rest, use_cache=False, logits_to_keep=functional.pad(asked, (0, 1)))
        logits = outputs.logits.float()  # (labeled tokens, V)
        places, scales = apart["box_places"], apart["box_scales"]
        found = answer_loss(logits, labels, self.stage.loss, self.numbers, places, scales)
        count = labels.numel() if num_items_in_batch is None else num_items_in_batch
        loss = found.total / torch.as_tensor(count, device=logits.device).clamp(min=1)
        if self.args.average_tokens_across_devices and num_items_in_batch is not None:
            loss = loss * self.accelerator.num_processes  # the gradients are averaged over devices
        self._note(found, logits.detach().argmax(dim=-1) == labels, apart["task_ids"], model.training)
        return (loss, outputs) if return_outputs else loss

    def _note(self, found: AnswerLoss, right: torch.Tensor, tasks: torch.Tensor | None, training: bool) -> None:
        """Keep what is logged of a batch."""
        means = self.means["train" if training else "eval"]
        means.add("mean_token_accuracy", right)
        if tasks is not None:
            means.add_by(TASK_LOSSES, found.entropy, tasks)
        if found.iou is not None:
            means.add("box_iou", found.iou)

    def _count_kept(self, module: torch.nn.Module, inputs: Any, outputs: Any) -> None:
        """Count which patches the compressor keeps, where its tokens are single patches."""
        kept = outputs[1]
        if kept is not None and module.training:
            self.kept += torch.bincount(kept.flatten(), minlength=len(self.kept))

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log with the interval's means, and in training with speed and how the selector spreads.

        Every process calls this.
        """
        held: Any = self.model
        training = held.training and "loss" in logs
        means = self.means["train" if training else "eval"].read(self.accelerator)
        if training:
            logs.update(means)
            logs.update(self.throughput.read(self.accelerator))
            kept = self.accelerator.reduce(self.kept.clone(), reduction="sum")
            if kept.sum() > 0:
                logs["kept_token_entropy"] = spread(kept)
            self.kept.zero_()
        elif any(name.startswith("eval_") for name in logs):
            logs.update({f"eval_{name}": value for name, value in means.items()})
        super().log(logs, start_time)

    # ----------------------------------------------------------------------------------------------------------
    # learning rates
    # ----------------------------------------------------------------------------------------------------------
    def create_optimizer(self, model: torch.nn.Module | None = None) -> torch.optim.Optimizer:
        """Muon with AdamW where the stage asks for Muon, else the optimizer that the arguments name.

        Each part of the model has its own learning rate; the schedule scales all alike.
        """
        if self.optimizer is None:
            held: Any = self.model
            muon, rest = self._parameter_groups(held if model is None else model)
            if self.stage.muon_learning_rate is not None:
                betas = (self.args.adam_beta1, self.args.adam_beta2)
                self.optimizer = MuonAdamW(muon, rest, betas)
            else:
                kind, settings = self.get_optimizer_cls_and_kwargs(self.args, held)
                self.optimizer = kind(rest, **settings)
        return self.optimizer

    def _parameter_groups(self, model: torch.nn.Module) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """Groups for Muon and for the other optimizer: one per part of the model and kind of weight decay."""
        decayed = set(self.get_decay_parameter_names(model))
        groups: dict[tuple[bool, str, bool], list[torch.nn.Parameter]] = {}
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                by_muon = self.stage.muon_learning_rate is not None and is_hidden_matrix(name, parameter)
                groups.setdefault((by_muon, part_of(name), name in decayed), []).append(parameter)
        rates: dict[bool, Any] = {True: self.stage.muon_learning_rate, False: self.args.learning_rate}
        settings: dict[bool, list[dict[str, Any]]] = {True: [], False: []}
        for (by_muon, part, decays), parameters in groups.items():
            settings[by_muon].append(
                {
                    "params": parameters,
                    "lr": rates[by_muon] * self.stage.factors[part],
                    "weight_decay": self.args.weight_decay if decays else 0.0,
                }
            )
        return settings[True], settings[False]
