"""A build of trajectories for tests: a few drawn mp4s, and rows with their true boxes."""

from pathlib import Path

import numpy as np

from dataset_scripts.construction.rows import Trajectory, write_trajectories
from dataset_scripts.synthetic.dataset import SyntheticConfig, make_video
from dataset_scripts.synthetic.write import write_video

NUM_FRAMES = 6
SIZE = 64


def trajectories_of(index: int, split: str | None = None) -> tuple[np.ndarray, list[Trajectory]]:
    """Frames of a drawn video, and a trajectory for each object that can be asked about."""
    clip = make_video(SyntheticConfig(size=SIZE), "test", index, NUM_FRAMES)
    rows = []
    for number, track in enumerate(clip.record.objects):
        boxes = np.where(track.absent[:, None], np.nan, track.boxes)
        rows.append(
            Trajectory(
                id=f"v{index}#{number}",
                video_id=f"v{index}",
                source="drawn",
                video=f"videos/v{index}.mp4",
                width=SIZE,
                height=SIZE,
                fps=clip.record.fps,
                frame_indices=list(range(NUM_FRAMES)),
                timestamps=[i / clip.record.fps for i in range(NUM_FRAMES)],
                boxes=boxes,
                presence=~track.absent,
                scores=np.where(track.absent, np.nan, 0.9),
                phrase=track.expression,
                caption=f"{track.expression} moves",
                license="Apache-2.0",
                split=split,
                provenance={"seed": index},
            )  # fmt: skip
        )
    return clip.frames, rows


def write_build(
    folder: Path, num_videos: int = 4, splits: tuple[str | None, ...] = ("train", "test")
) -> list[Trajectory]:
    """Write videos and two shards; the rows in the order in which they are read."""
    every = []
    for index in range(num_videos):
        frames, rows = trajectories_of(index, splits[index % len(splits)])
        write_video(folder / "videos" / f"v{index}.mp4", frames, rows[0].fps)
        every.append(rows)
    half = num_videos // 2
    for shard, part in enumerate((every[:half], every[half:])):
        write_trajectories(folder / "shards" / f"{shard:05d}.parquet", [row for rows in part for row in rows])
    return [row for rows in every for row in rows]
