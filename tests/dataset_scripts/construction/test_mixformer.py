"""The MixFormer adapter with a checkout that has the real one's entrances and follows the brightest pixels."""

import gc
import subprocess
import sys

import numpy as np
import pytest

from dataset_scripts.construction.backends.make import make_tracker
from dataset_scripts.construction.backends.mixformer import MixFormerTrackers
from dataset_scripts.construction.config import BackendConfig
from dataset_scripts.construction.tracking import TrackingConfig, follow_objects

TRACKER = """
import importlib
class Tracker:
    def __init__(self, name, parameter_name, dataset_name, run_id=None, display_name=None, result_only=False,
                 tracker_params=None):
        print("noise on stdout", name, parameter_name, dataset_name, tracker_params)
        self.name, self.parameter_name, self.dataset_name = name, parameter_name, dataset_name
        self.tracker_class = importlib.import_module("lib.test.tracker." + name).get_tracker_class()
        module, given = importlib.import_module("lib.test.parameter." + name), tracker_params
        self.params = module.parameters(parameter_name, given["model"], given.get("search_area_scale"))
    def create_tracker(self, params):
        return self.tracker_class(params, self.dataset_name)
"""
PARAMETERS = """
import os
class Parameters: pass
def parameters(yaml_name, model=None, search_area_scale=None):
    params = Parameters()
    params.checkpoint = os.path.join("models", model)  # relative to the checkout, as its own are
    params.yaml_name, params.scale = yaml_name, search_area_scale
    return params
"""
BRIGHTEST = '''
import json, os
import numpy as np
import torch
made = 0
class Network(torch.nn.Module):
    def forward_test(self, image, run_score_head=True):
        return {"pred_scores": torch.tensor([[image.max() / 64.0 - 2.0]])}, None
class Brightest:
    """Its box is centered on the brightest pixels and grows by the pixels of the setting."""
    def __init__(self, params, dataset_name):
        global made
        made += 1
        print("loaded", params.checkpoint, dataset_name)
        self.grow = json.load(open(params.checkpoint))["grow"]
        self.network = Network()
        assert (params.yaml_name, params.scale, dataset_name) == ("large", 4.5, "lasot")
    def initialize(self, image, info):
        self.state = info["init_bbox"]
    def track(self, image, info=None):
        if image.max() < 10:
            raise RuntimeError("nothing is bright")
        if image.min() > 250:
            os._exit(3)
        self.network.forward_test(image)
        ys, xs = np.nonzero(image.max(axis=2) == image.max())
        w, h = self.state[2] + self.grow, self.state[3] + self.grow
        self.state = [float(xs.mean()) + 0.5 - w / 2, float(ys.mean()) + 0.5 - h / 2, w, h]
        return {"target_bbox": self.state}
def get_tracker_class():
    return Brightest
'''


@pytest.fixture
def checkout(tmp_path):
    """Like MixFormer's, as far as its test code is entered."""
    files = {
        "lib/test/evaluation/tracker.py": TRACKER,
        "lib/test/parameter/mixformer_vit_online.py": PARAMETERS,
        "lib/test/tracker/mixformer_vit_online.py": BRIGHTEST,
        "models/tiny.pth": '{"grow": 2}',
    }
    for name, text in files.items():
        path = tmp_path / "MixFormer" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path / "MixFormer"


def options(checkout, **more):
    return {"checkout": str(checkout), "model": "tiny.pth", "parameters": "large", "search_area_scale": 4.5, **more}


def frames(*centers, level=192):
    """Frames of 60 x 40 pixels, each with a 4 x 4 bright square around a center."""
    made = np.zeros((len(centers), 40, 60, 3), dtype=np.uint8)
    for frame, (x, y) in zip(made, centers, strict=True):
        frame[y - 2 : y + 2, x - 2 : x + 2] = level
    return list(made)


def test_two_objects_are_followed(checkout):
    tracker = make_tracker(BackendConfig("mixformer", options(checkout)), "cuda")
    boxes = np.array([[0.1, 0.1, 0.3, 0.4], [0.5, 0.5, 0.6, 0.75]])
    first, second = follow_objects(tracker, frames((10, 10), (20, 12), (30, 30)), boxes, TrackingConfig(None))
    size = np.array([60, 40, 60, 40])
    np.testing.assert_allclose(
        np.array(first.boxes) * size, [[6, 4, 18, 16], [13, 5, 27, 19], [22, 22, 38, 38]], atol=1e-6
    )
    np.testing.assert_allclose(np.array(second.boxes)[1:] * size, [[16, 6, 24, 18], [25, 23, 35, 37]], atol=1e-6)
    sure = 1 / (1 + np.exp(-(192 / 64 - 2)))  # of the score head, which `track` does not return
    np.testing.assert_allclose(first.scores, [1, sure, sure], rtol=1e-5)


def test_networks_are_used_again(checkout):
    trackers = MixFormerTrackers(**options(checkout))
    for _ in range(5):
        one = trackers.new()
        one.init(frames((10, 10))[0], np.array([0.1, 0.1, 0.3, 0.4]))
        one.update(frames((12, 10))[0])
        del one
        gc.collect()
    assert trackers._last_words().count("loaded") == 1


def test_errors_are_told_and_the_process_ends_with_its_owner(checkout):
    trackers = MixFormerTrackers(**options(checkout))
    one = trackers.new()
    one.init(frames((10, 10))[0], np.array([0.1, 0.1, 0.3, 0.4]))
    with pytest.raises(RuntimeError, match="RuntimeError: nothing is bright"):
        one.update(np.zeros((40, 60, 3), dtype=np.uint8))
    assert one.update(frames((20, 20))[0])[1] > 0.5  # and goes on
    process = trackers._process
    with pytest.raises(RuntimeError, match="process of MixFormer ended"):
        one.update(np.full((40, 60, 3), 255, dtype=np.uint8))
    assert process.wait(60) == 3
    other = MixFormerTrackers(**options(checkout))
    process = other._process
    del other
    gc.collect()
    assert process.poll() is not None


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"checkout": "/none"}, "has no lib/test/evaluation/tracker.py"),
        ({"python": "/none/python"}, "cannot be started"),
        ({"name": "mixformer_cvt"}, "mixformer_cvt"),
        ({"model": "other.pth"}, None),
        ({"color": "red"}, "do not fit"),
    ],
)
def test_what_cannot_be_started(checkout, more, says):
    given = BackendConfig("mixformer", {**options(checkout), **more})
    if says is not None:
        with pytest.raises(ValueError, match=says):
            make_tracker(given, "cuda")
        return
    with pytest.raises(RuntimeError, match="FileNotFoundError"):  # this one's weights are read when an object comes
        make_tracker(given, "cuda").new().init(frames((10, 10))[0], np.array([0.1, 0.1, 0.3, 0.4]))


def test_the_worker_needs_none_of_our_packages():
    code = (
        "import runpy, sys; runpy.run_path(sys.argv[1]); ours = ('processing_elysium', 'dataset_scripts'); "
        "print([name for name in sys.modules if name.startswith(ours)])"
    )
    path = MixFormerTrackers.__init__.__globals__["WORKER"]
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
