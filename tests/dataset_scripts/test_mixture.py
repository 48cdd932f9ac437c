"""Schedules of mixtures: shares, no item twice, the same from any item on; streams that go on where they stopped."""

import io
import json
import tarfile
from collections import Counter
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from dataset_scripts.mixture import BLOCK, Mixture, Part, scrambled
from dataset_scripts.records import ObjectTrack, VideoRecord, write_records
from dataset_scripts.streams import RecordsStream, StreamCursor, TarStream

QUICK = settings(max_examples=25, deadline=None)


@dataclass
class Numbers:
    """A source whose clips are numbers."""

    length: int
    shuffled: bool = True

    def __len__(self):
        return self.length


@QUICK
@given(st.integers(1, 700), st.lists(st.integers(0, 2**70), min_size=1, max_size=4))
def test_scrambled_is_a_permutation(length, key):
    assert sorted(scrambled(place, length, tuple(key)) for place in range(length)) == list(range(length))


def test_scrambled_mixes_and_depends_on_its_key():
    for length in (5, 100, 1000):
        orders = {tuple(scrambled(i, length, (7, turn)) for i in range(length)) for turn in range(20)}
        assert len(orders) > 15
    order = np.array([scrambled(i, 4096, (1,)) for i in range(4096)])
    assert abs(np.corrcoef(order, np.arange(4096))[0, 1]) < 0.06  # four standard deviations
    assert (np.diff(order) == 1).mean() < 0.01
    assert 0 <= scrambled(19_999_999, 20_000_000, (3,)) < 20_000_000
    with pytest.raises(ValueError, match="give 0 to 4"):
        scrambled(5, 5, (1,))


mixtures = st.lists(
    st.tuples(st.floats(0.01, 100), st.integers(1, 900), st.booleans(), st.none() | st.integers(1, 50)),
    min_size=1,
    max_size=6,
)


@QUICK
@given(mixtures, st.integers(0, 10), st.integers(0, 50))
def test_shares_are_exact_and_each_pass_has_every_clip_once(rows, seed, block):
    parts = [Part(Numbers(length, shuffled), weight, limit) for weight, length, shuffled, limit in rows]
    mixture = Mixture(parts, (seed, 3))
    located = [mixture.locate(item) for item in range(2 * BLOCK)]
    counts = [Counter(number for number, _ in located[i * BLOCK : (i + 1) * BLOCK]) for i in range(2)]
    assert counts[0] == counts[1]
    total = sum(weight for weight, *_ in rows)
    for number, (weight, *_) in enumerate(rows):
        assert abs(counts[0][number] - weight / total * BLOCK) <= len(rows)
        indices = [index for n, index in located if n == number]
        length = parts[number].length
        for start in range(0, len(indices) - length + 1, length):
            assert sorted(indices[start : start + length]) == list(range(length))
    # Any item can be asked for by itself, by another process, in any order.
    other = Mixture(parts, (seed, 3))
    for item in (block * 37 % (2 * BLOCK), 2 * BLOCK - 1, 0):
        assert other.locate(item) == located[item]
    assert len(mixture) == sum(part.length for part in parts)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Mixture([], (0, 0)), "the mixture is empty"),
        (lambda: Part(Numbers(3), 0.0, name="pets.jsonl"), "'pets.jsonl': weight is 0.0"),
        (lambda: Part(Numbers(3), -1.0, name="pets.jsonl"), "'pets.jsonl': weight is -1.0"),
        (lambda: Part(Numbers(3), float("nan"), name="pets.jsonl"), "'pets.jsonl': weight is nan"),
        (lambda: Part(Numbers(3), 1.0, 0, "pets.jsonl"), "'pets.jsonl': limit is 0"),
        (lambda: Mixture([Part(Numbers(1))] * 501, (0, 0)), "501 sources, at most 500"),
        (lambda: RecordsStream(path="/nowhere/*.jsonl"), r"/nowhere/\*.jsonl matches no file"),
        (lambda: TarStream(path="/nowhere/*.tar"), r"/nowhere/\*.tar matches no file"),
    ],
)
def test_bad_mixtures(make, message):
    with pytest.raises(ValueError, match=message):
        make()


# --------------------------------------------------------------------------------------------------------------
# streams
# --------------------------------------------------------------------------------------------------------------
@dataclass
class NumberStream:
    """Shards of (shard, entry)."""

    lengths: list[int]

    @property
    def shards(self):
        return [f"shard {i}" for i in range(len(self.lengths))]

    def entries(self, shard, start):
        return iter([(shard, entry) for entry in range(start, self.lengths[shard])])


streams = st.lists(st.integers(0, 6), min_size=1, max_size=7).filter(lambda lengths: sum(lengths) > 0)


@QUICK
@given(streams, st.data())
def test_readers_of_a_stream_share_it_out_and_resume(lengths, data):
    stream = NumberStream(lengths)
    readers = data.draw(st.integers(1, len(lengths)))
    seen = []
    for reader in range(readers):
        cursor = StreamCursor(stream, reader, readers, (5,))
        mine = []
        while cursor.turn == 0:
            stopped = cursor.position
            mine.append(next(cursor))
            if data.draw(st.booleans()):  # killed and resumed here
                resumed = StreamCursor(stream, reader, readers, (5,), stopped)
                assert next(resumed) == mine[-1] and resumed.position == cursor.position
                cursor = resumed
        # The entry that began another pass is not of this one.
        seen += mine[:-1] if cursor.turn else mine
    assert sorted(seen) == [(shard, i) for shard, length in enumerate(lengths) for i in range(length)]


def test_a_stream_without_entries_is_refused_and_empty_shards_are_passed_over():
    with pytest.raises(ValueError, match="hold no entry"):
        next(StreamCursor(NumberStream([0, 0]), 0, 1, (0,)))
    for reader in range(3):  # whoever has an empty shard in this pass finds the entry in a later one
        assert next(StreamCursor(NumberStream([0, 1, 0]), reader, 3, (5,))) == (1, 0)


def test_more_readers_than_shards_are_refused():
    with pytest.raises(ValueError, match="4 readers .* share 3 shard"):
        StreamCursor(NumberStream([1, 1, 1]), 0, 4, (0,))
    with pytest.raises(ValueError, match="limit is 3"):
        Part(NumberStream([1]), 1.0, 3)


def picture(value):
    file = io.BytesIO()
    Image.new("RGB", (8, 6), (value, 0, 0)).save(file, "PNG")
    return file.getvalue()


def write_tar(path, samples):
    with tarfile.open(path, "w") as archive:
        for name, data in samples:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))


def sample(value, box=(0.1, 0.2, 0.3, 0.4)):
    record = {"source": "grit", "objects": [{"expression": f"thing {value}", "box": [list(box)]}]}
    return [(f"a/{value:05d}.png", picture(value)), (f"a/{value:05d}.json", json.dumps(record).encode())]


def test_tars_are_read_from_any_entry(tmp_path):
    for shard in range(2):
        write_tar(tmp_path / f"{shard}.tar", [file for i in range(4) for file in sample(10 * shard + i)])
    stream = TarStream(path=str(tmp_path / "*.tar"))
    clips = [entry.clip(1, None) for entry in stream.entries(1, 2)]
    assert [clip.frames[0][0, 0, 0] for clip in clips] == [12, 13]
    assert [clip.record.id for clip in clips] == ["a/00012", "a/00013"]
    assert clips[0].record.objects[0].expression == "thing 12"


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ([("k.png", picture(1))], "sample 'k': it holds .* no .json"),
        ([("k.json", b'{"source": "s"}')], "sample 'k': .* one picture"),
        (sample(3, (1.2, 0.1, 1.4, 0.4)), "sample 'a/00003': .*outside the frame in frame 0"),
        ([("k.json", b'{"source": "s", "frames": [0, 1]}'), ("k.png", picture(1))], "sample 'k': .*2 frames"),
        ([("k.json", b'{"source": "s"}'), ("k.png", b"no picture")], "record 'k': cannot identify"),
    ],
)
def test_broken_samples_of_tars_are_named(tmp_path, files, message):
    write_tar(tmp_path / "0.tar", files)
    (entry,) = TarStream(path=str(tmp_path / "0.tar")).entries(0, 0)
    with pytest.raises(ValueError, match=message):
        _ = entry.clip(1, None).frames


def test_a_file_that_is_no_tar(tmp_path):
    (tmp_path / "0.tar").write_bytes(b"no tar at all")
    with pytest.raises(ValueError, match="0.tar cannot be read as a tar"):
        next(TarStream(path=str(tmp_path / "0.tar")).entries(0, 0))


def test_files_of_records_are_a_stream(tmp_path):
    Image.new("RGB", (4, 4)).save(tmp_path / "p.png")
    track = ObjectTrack(boxes=[[0.1, 0.1, 0.5, 0.5]], expression="the square")
    for shard in range(2):
        rows = [VideoRecord(id=f"{shard}-{i}", source="s", video="p.png", objects=[track]) for i in range(3)]
        write_records(tmp_path / f"{shard}.jsonl", rows)
    stream = RecordsStream(path=str(tmp_path / "*.jsonl"))
    clips = [entry.clip(1, np.random.default_rng(0)) for entry in stream.entries(1, 1)]
    assert [clip.record.id for clip in clips] == ["1-1", "1-2"] and clips[0].frames[0].shape == (4, 4, 3)
