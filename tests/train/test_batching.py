"""Planned batches: every item once over all readers, within budgets, and the same when a run goes on."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch.utils.data import DataLoader

from dataset_scripts.records import ObjectTrack, VideoRecord, write_records
from tests.dataset_scripts.adapters import miniatures as m
from tests.dataset_scripts.test_grit_stream import grit_sample
from tests.tracking.tokenizers_of_all_kinds import processor_of
from train.batching import BrokenItems, PlannedBatches, batches_by_length
from train.collator import ConversationCollator
from train.config import SourceConfig
from train.data import ConversationSource
from train.feed_config import FeedConfig, LossConfig
from train.lengths import padding_share

from .tiny_recipe import BATCH, stage

BOX = [0.1, 0.2, 0.3, 0.4]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(1, 300), max_size=80),
    st.integers(1, 9),
    st.none() | st.integers(300, 1500),
    st.integers(0, 9),
)
def test_batches_hold_every_item_once_within_both_budgets(lengths, most_items, most_tokens, seed):
    batches = batches_by_length(lengths, most_items, most_tokens, np.random.default_rng(seed))
    assert sorted(itertools.chain(*batches)) == list(range(len(lengths)))
    sizes = [[lengths[place] for place in batch] for batch in batches]
    for rows in sizes:
        assert len(rows) <= most_items and (most_tokens is None or len(rows) * max(rows) <= most_tokens)
    again = batches_by_length(lengths, most_items, most_tokens, np.random.default_rng(seed))
    assert again == batches
    if most_tokens is None and lengths:
        arrival = [lengths[i : i + most_items] for i in range(0, len(lengths), most_items)]
        if len(lengths) % most_items == 0:
            assert padding_share(sizes) <= padding_share(arrival) + 1e-9


def test_an_item_beyond_the_budget_is_refused():
    with pytest.raises(ValueError, match="an item has 9 tokens, a batch at most 8"):
        batches_by_length([3, 9], 2, 8, np.random.default_rng(0))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Forty records of one to eight frames."""
    folder = tmp_path_factory.mktemp("records")
    Image.new("RGB", (8, 8)).save(folder / "p.png")
    rows = [
        VideoRecord(
            id=f"r{i}",
            source="s",
            video=["p.png"] * (1 + i % 8),
            objects=[ObjectTrack(boxes=[BOX] * (1 + i % 8), expression="it")],
        )
        for i in range(40)
    ]
    write_records(folder / "many.jsonl", rows)
    for shard in range(4):
        write_records(folder / f"part-{shard}.jsonl", rows[10 * shard : 10 * shard + 10])
        # GRIT's own tars: after two usable samples one of which nothing can be asked
        samples = [[("it", m.CAR)] if i % 3 != 2 else [("they", m.CAR), ("they", m.BALL)] for i in range(15)]
        files = [grit_sample(f"{i:03d}", expressions) for i, expressions in enumerate(samples)]
        m.tar_of(folder / f"grit-{shard}.tar", {name: data for one in files for name, data in one.items()})
    return folder


def batches_of(source, world_size=1, rank=0, workers=0, **feed):
    one = stage(sources=[source], num_frames=(1, 8), feed=FeedConfig(similar_lengths=True, window=10, **feed))
    processor = processor_of("characters")
    items = ConversationSource(one, BATCH, writer=processor, world_size=world_size)
    return PlannedBatches(items, ConversationCollator(processor), BATCH, rank, workers)


def source_of(folder, name="many.jsonl"):
    options = {"layout": "grit"} if name.endswith(".tar") else {}
    return SourceConfig(source=str(folder / name), tasks={"rsot": 1.0, "rec": 1.0}, options=options)


def ids_of(batches, monkeypatch=None):
    """Ids of the records of each batch, as the collator gets them."""
    names = []
    collate = batches.collator

    def noted(samples, info=None):
        batch = collate(samples, info)
        batch["info"]["ids"] = [sample["id"] for sample in samples]
        return batch

    batches.collator = noted
    noted.processor, noted.context = collate.processor, collate.context
    return names


@pytest.mark.parametrize("name", ["many.jsonl", "part-*.jsonl", "grit-*.tar"])
@pytest.mark.parametrize(("world_size", "workers"), [(1, 0), (2, 2), (1, 3)])
def test_readers_share_a_pass_without_doubling(folder, name, world_size, workers):
    """One pass is forty records; with readers that come equally far, none is read twice and none is left out."""
    readers = world_size * max(1, workers)
    seen = []
    for reader in range(readers):
        rank, worker = divmod(reader, max(1, workers))
        batches = batches_of(source_of(folder, name), world_size, rank, workers)
        ids_of(batches)
        batches._taken = worker  # asks for this worker's batches without starting processes
        mine = []
        for batch in batches:
            window = batch["info"]["place"]["window"]
            # Of a stream each reader has shards of its own: ten records each of four, or twenty, or forty.
            if (window * readers + reader) * 10 >= 40:
                break
            mine += batch["info"]["ids"]
        seen += mine
    if name == "many.jsonl":
        assert sorted(seen) == sorted(f"r{i}" for i in range(40))
    else:
        assert len(seen) == len(set(seen)) == 40 or readers == 3


@pytest.mark.parametrize("name", ["many.jsonl", "part-*.jsonl", "grit-*.tar"])
@pytest.mark.parametrize("workers", [0, 2])
def test_a_run_goes_on_where_it_stopped(folder, name, workers):
    """With real workers: the batches after any stop are those of an undisturbed run, whatever was read ahead."""

    def loader(batches):
        options = {"prefetch_factor": 3} if workers else {}
        return iter(DataLoader(batches, batch_size=None, num_workers=workers, **options))

    def take(iterator, batches, count):
        found = []
        for _ in range(count):
            batch = next(iterator)
            batches.took(batch["info"]["place"])
            found.append(batch)
        return found

    whole = batches_of(source_of(folder, name), workers=workers)
    expected = take(loader(whole), whole, 14)
    for stop in (1, 5, 8):
        first = batches_of(source_of(folder, name), workers=workers)
        take(loader(first), first, stop)
        second = batches_of(source_of(folder, name), workers=workers)
        second.go_on(first.state())
        for mine, other in zip(take(loader(second), second, 14 - stop), expected[stop:], strict=True):
            assert torch.equal(mine["input_ids"], other["input_ids"])
            assert mine["info"] == other["info"]
        assert second.state() == whole.state()


def test_another_number_of_readers_is_refused(folder):
    state = batches_of(source_of(folder), world_size=2).state()
    with pytest.raises(ValueError, match=r"written with 2 readers .* this run has 1"):
        batches_of(source_of(folder)).go_on(state)


def test_broken_files_are_skipped_and_named(folder, tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "p.png")
    (tmp_path / "torn.png").write_bytes((tmp_path / "p.png").read_bytes()[:40])
    tracks = [ObjectTrack(boxes=[BOX], expression="it")]
    outside = [ObjectTrack(boxes=[[1.1, 0.1, 1.3, 0.4]], expression="it")]
    rows = [VideoRecord(id=f"good{i}", source="s", video="p.png", objects=tracks) for i in range(7)]
    rows += [
        VideoRecord(id="torn", source="s", video="torn.png", objects=tracks),
        VideoRecord(id="gone", source="s", video="gone.png", objects=tracks),
        VideoRecord(id="outside", source="s", video="p.png", objects=outside),
    ]
    write_records(tmp_path / "r.jsonl", rows)
    batches = batches_of(source_of(tmp_path, "r.jsonl"))
    ids_of(batches)
    ids, skipped = [], []
    for batch in batches:
        if batch["info"]["place"]["window"]:
            skipped += batch["info"]["skipped"] if batch["info"]["place"]["batch"] > 1 else []
            break
        ids += batch["info"]["ids"]
        skipped += batch["info"]["skipped"]
    assert sorted(ids) == sorted(f"good{i}" for i in range(7))
    for name in ("torn", "gone", "outside"):
        assert any(f"record '{name}'" in reason for reason in skipped), (name, skipped)
    # In batches of one size another item stands for a broken one.
    items = ConversationSource(stage(sources=[source_of(tmp_path, "r.jsonl")], num_frames=(1, 1)), BATCH)
    rows = [items[item] for item in range(10)]
    assert all(row["id"].startswith("good") for row in rows)
    assert sum(len(row["skipped"]) for row in rows) >= 3


def test_what_does_not_fit_is_skipped_and_named(folder):
    batches = batches_of(source_of(folder), tokens_per_batch=320)
    _, skipped = batches.plan(0, {})
    assert skipped and all("tokens_per_batch is 320" in reason and "record 'r" in reason for reason in skipped)
    with pytest.raises(ValueError, match="none of 10 items can be used:\n.*tokens_per_batch is 1;"):
        batches_of(source_of(folder), tokens_per_batch=1).plan(0, {})


def test_a_stream_needs_planned_batches(folder):
    items = ConversationSource(stage(sources=[source_of(folder, "part-*.jsonl")]), BATCH)
    assert items.mixture.endless
    with pytest.raises(ValueError, match=r"part-\*.jsonl' is read from front to back"):
        items[0]


def test_too_many_broken_items_stop_the_run():
    broken = BrokenItems(0.01)
    for number in range(5):
        broken = broken.count(9, [f"record 'r{number}': torn"])
    with pytest.raises(ValueError, match=r"6 of 51 items cannot be used, more than the share 0.01") as told:
        broken.count(0, ["record 'r5': torn"])
    assert all(f"record 'r{number}': torn" in str(told.value) for number in range(6))
    assert broken.count(10_000, ["record 'r5': torn"]).seen == 10_051
    with pytest.raises(ValueError, match="1 of 10 items"):
        BrokenItems(0.0).count(9, ["record 'x': gone"])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: FeedConfig(tokens_per_batch=0), "tokens_per_batch is 0"),
        (lambda: FeedConfig(window=0), "window is 0"),
        (lambda: FeedConfig(max_broken=1.0), "max_broken is 1.0"),
        (lambda: LossConfig(number_weight=0.0), "number_weight is 0.0"),
        (lambda: LossConfig(iou_weight=-1.0), "iou_weight is -1.0"),
        (lambda: stage(sources=[]), "sources is empty"),
    ],
)
def test_bad_settings(make, message):
    with pytest.raises(ValueError, match=message):
        make()
