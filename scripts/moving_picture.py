"""A video as a small moving picture (WebP), such as the one in README, which browsers and GitHub show.

elysium track examples/sample.mp4 --box 158,58,216,199 --label bottle --output outputs/sample.mp4
python -m scripts.moving_picture outputs/sample.mp4 docs/sample.webp
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import av
from PIL import Image

from tracking_elysium.whole_files import written_whole

__all__ = ["main", "write_moving_picture"]


def write_moving_picture(video: Path, picture: Path, width: int = 480, every: int = 1, quality: int = 55) -> int:
    """Write the frames of a video as a picture that moves and begins anew at its end.

    Args:
        video: file to read.
        picture: file to write, ending in `.webp`; what is there is replaced.
        width: of the picture, in pixels.
        every: take one frame of so many.
        quality: of the compression, 1 to 100.

    Returns:
        The number of frames written.

    Raises:
        ValueError: another ending, or no frame in the video.
    """
    if picture.suffix != ".webp":
        raise ValueError(f"`picture`={str(picture)!r} does not end in .webp; name a file that does.")
    frames, seconds = [], []
    with av.open(str(video)) as source:
        for number, frame in enumerate(source.decode(video=0)):
            if number % every == 0:
                image = frame.to_image()
                height = round(image.height * width / image.width)
                frames.append(image.resize((width, height), Image.Resampling.LANCZOS))
                seconds.append(frame.time)
    if not frames:
        raise ValueError(f"`video`={str(video)!r} has no frames; check the file.")
    lasts = [round((later - earlier) * 1000) for earlier, later in zip(seconds, seconds[1:], strict=False)]
    lasts.append(lasts[-1] if lasts else 1000)
    with written_whole(picture) as part:
        frames[0].save(
            part, save_all=True, append_images=frames[1:], duration=lasts, loop=0, quality=quality, method=4
        )
    return len(frames)


def main(arguments: list[str] | None = None) -> int:
    """Read the command line, write the picture, say how large it is."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("video", type=Path)
    parser.add_argument("picture", type=Path, help="file to write, ending in .webp")
    parser.add_argument("--width", type=int, default=480, help="pixels (default: 480)")
    parser.add_argument("--every", type=int, default=1, help="take one frame of so many (default: 1)")
    parser.add_argument("--quality", type=int, default=55, help="1 to 100 (default: 55)")
    args = parser.parse_args(arguments)
    count = write_moving_picture(args.video, args.picture, args.width, args.every, args.quality)
    sys.stdout.write(f"{args.picture}: {count} frames, {args.picture.stat().st_size / 1e6:.2f} MB\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
