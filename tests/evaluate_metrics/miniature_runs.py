"""Runs of miniature benchmarks: a pipeline that says their true boxes, and the command line."""

from evaluate_metrics.runners import command

from .miniatures import BOXES


class Pipe:
    """A pipeline that says the miniature's true box, moved by `shift` pixels; it can say nothing, or fill a gap."""

    device = "cpu"

    def __init__(self, shift=0.0, silent=(), filled=()):
        self.shift, self.silent, self.filled, self.asked = shift, set(silent), set(filled), []

    def __call__(self, videos, **asked):
        self.asked.append(asked)
        if asked.get("task") == "describe":
            return [{"description": "the red cat"}]
        if isinstance(videos, list):
            return [self._frames(video) for video in videos]
        return self._frames(videos)

    def _frames(self, video):
        for index in range(video.num_frames):
            x, y, w, h = BOXES[index % 6]
            box = {"xmin": x + self.shift, "ymin": y, "xmax": x + w + self.shift, "ymax": y + h}
            item = {"box": box, "score": 0.0 if index in self.filled else 0.9}
            frame = {"frame": index, "objects": [] if index in self.silent else [item]}
            yield frame

    def ask(self, video, question):
        return "A cat."


class ListPipe(Pipe):
    def _frames(self, video):
        return list(super()._frames(video))


def run(task, data, out, *more):
    command.main(["--task", task, "--data", str(data), "--out", str(out), *more])
