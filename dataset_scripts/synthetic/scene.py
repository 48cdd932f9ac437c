"""What is in a synthetic video and how it moves: pure numbers, no pixels.

A scene is drawn from one random generator. Positions are closed-form functions of time, so any frame of a video
can be made without the frames before it. Units: positions and sizes are fractions of the frame, time is in frames.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

__all__ = [
    "COLORS",
    "MOTIONS",
    "SHAPES",
    "SIZES",
    "TEXTURES",
    "Camera",
    "Scene",
    "SceneObject",
    "motion_word",
    "sample_scene",
]

# RGB at full light; each object jitters around its color.
COLORS: dict[str, tuple[int, int, int]] = {
    "red": (215, 35, 35),
    "green": (40, 165, 50),
    "blue": (45, 70, 220),
    "yellow": (238, 218, 40),
    "purple": (145, 50, 185),
    "orange": (240, 130, 20),
    "cyan": (40, 205, 220),
    "white": (240, 240, 240),
}
SHAPES = ("circle", "square", "triangle", "ring", "star", "cross", "diamond", "heart")
SIZES: dict[str, tuple[float, float]] = {"small": (0.16, 0.22), "large": (0.31, 0.42)}
TEXTURES = ("plain", "striped", "dotted")
MOTIONS = ("moving left", "moving right", "moving up", "moving down", "staying still")
TRAJECTORIES = ("smooth", "accelerating", "curving", "still")

# An object whose center moved less than this, as a fraction of the frame, is called still.
STILL_BELOW = 0.05


@dataclass(frozen=True)
class SceneObject:
    """One object: what it looks like and how its center and size depend on time.

    Attributes:
        size: geometric mean of width and height at time 0; `aspect` is width / height.
        start, velocity, acceleration, wave, phase: `(2,)` each; the path is start + v t + a t^2 / 2 + wave sin(...).
        pulse, pulse_period, pulse_phase: relative amplitude and period (frames) of the change of size.
        tint: `(3,)` offset of the color, in gray levels.
    """

    color: str
    shape: str
    size_word: str
    texture: str
    size: float
    aspect: float
    start: np.ndarray
    velocity: np.ndarray
    acceleration: np.ndarray
    wave: np.ndarray
    wave_period: float
    phase: np.ndarray
    pulse: float
    pulse_period: float
    pulse_phase: float
    tint: np.ndarray

    @property
    def look(self) -> tuple[str, str, str, str]:
        """The four attributes by which objects can be told apart in a still frame."""
        return (self.size_word, self.texture, self.color, self.shape)

    def sizes_at(self, times: np.ndarray) -> np.ndarray:
        """Return width and height, `(F, 2)`, in world units at `times` `(F,)`."""
        scale = 1 + self.pulse * np.sin(2 * np.pi * times / self.pulse_period + self.pulse_phase)
        ratio = np.array([np.sqrt(self.aspect), 1 / np.sqrt(self.aspect)])
        return self.size * scale[:, None] * ratio

    def centers_at(self, times: np.ndarray) -> np.ndarray:
        """Return centers, `(F, 2)`, in world units: the free path, folded at the walls as a bouncing ball's."""
        t = times[:, None]
        angle = 2 * np.pi * t / self.wave_period + self.phase
        free = self.start + self.velocity * t + 0.5 * self.acceleration * t**2 + self.wave * np.sin(angle)
        margin = 0.5 * self.size
        span = 1 - 2 * margin
        # A triangle wave reflects the path at both walls, however far it has gone.
        folded = np.abs(np.mod(free - margin + span, 2 * span) - span)
        return margin + folded


@dataclass(frozen=True)
class Camera:
    """A smooth pan and zoom: world point w is seen at (w - 0.5 - offset(t)) * zoom(t) + 0.5."""

    pan: np.ndarray
    period: float
    phase: np.ndarray
    zoom: float

    def at(self, times: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return offsets `(F, 2)` and zooms `(F,)` at `times` `(F,)`."""
        angle = 2 * np.pi * times / self.period
        return self.pan * np.sin(angle[:, None] + self.phase), 1 + self.zoom * np.sin(angle + self.phase[0])


@dataclass(frozen=True)
class Scene:
    """Objects in drawing order (the last is in front), the camera, and what the renderer needs.

    Attributes:
        occluder: None or (axis, center, width) of a static gray bar in front of everything.
        texture_seed: seed of the background and the noise.
    """

    objects: tuple[SceneObject, ...]
    camera: Camera
    occluder: tuple[int, float, float] | None
    texture_seed: int

    def boxes_at(self, times: np.ndarray) -> np.ndarray:
        """Return boxes `(O, F, 4)`, xyxy as fractions of the frame, not clipped to it."""
        offset, zoom = self.camera.at(times)
        boxes = []
        for item in self.objects:
            center = (item.centers_at(times) - 0.5 - offset) * zoom[:, None] + 0.5
            half = 0.5 * item.sizes_at(times) * zoom[:, None]
            boxes.append(np.concatenate([center - half, center + half], axis=1))
        return np.stack(boxes)


def motion_word(boxes: np.ndarray) -> str:
    """Name the larger component of the way from first to last center, one of `MOTIONS`; boxes are `(F, 4)`."""
    first, last = boxes[0], boxes[-1]
    dx, dy = (last[:2] + last[2:] - first[:2] - first[2:]) / 2
    if max(abs(dx), abs(dy)) < STILL_BELOW:
        return "staying still"
    if abs(dx) >= abs(dy):
        return "moving right" if dx > 0 else "moving left"
    return "moving down" if dy > 0 else "moving up"


def sample_scene(rng: np.random.Generator, min_objects: int = 2, max_objects: int = 5) -> Scene:
    """Draw a scene in which distractors share color or shape but no two objects look the same.

    Args:
        rng: the only source of randomness.
        min_objects: fewest objects, at least 1.
        max_objects: most objects.
    """
    count = int(rng.integers(min_objects, max_objects + 1))
    looks: list[tuple[str, str, str, str]] = []
    while len(looks) < count:
        look = _sample_look(rng, looks)
        if look not in looks:
            looks.append(look)
    order = rng.permutation(count)
    objects = tuple(_sample_object(rng, looks[i]) for i in order)
    moving_camera = rng.random() < 0.5
    camera = Camera(
        pan=rng.uniform(-0.10, 0.10, 2) * moving_camera,
        period=float(rng.uniform(40, 120)),
        phase=rng.uniform(0, 2 * np.pi, 2),
        zoom=float(rng.uniform(0, 0.06)) * moving_camera,
    )
    occluder = None
    if rng.random() < 0.2:
        occluder = (int(rng.integers(2)), float(rng.uniform(0.2, 0.8)), float(rng.uniform(0.06, 0.12)))
    return Scene(objects, camera, occluder, int(rng.integers(2**31)))


def _sample_look(rng: np.random.Generator, others: list[tuple[str, str, str, str]]) -> tuple[str, str, str, str]:
    """Draw a random look; often one that shares color, shape or both with an object that is already there."""
    size = str(rng.choice(list(SIZES)))
    texture = str(rng.choice(TEXTURES, p=[0.5, 0.25, 0.25]))
    color, shape = str(rng.choice(list(COLORS))), str(rng.choice(SHAPES))
    if others and rng.random() < 0.5:
        other = others[int(rng.integers(len(others)))]
        kind = rng.random()
        if kind < 0.45:
            color = other[2]
        elif kind < 0.9:
            shape = other[3]
        else:
            color, shape = other[2], other[3]
    return size, texture, color, shape


def _sample_object(rng: np.random.Generator, look: tuple[str, str, str, str]) -> SceneObject:
    size_word, texture, color, shape = look
    kind = str(rng.choice(TRAJECTORIES, p=[0.4, 0.25, 0.25, 0.1]))
    angle = rng.uniform(0, 2 * np.pi)
    speed = 0.0 if kind == "still" else float(rng.uniform(0.008, 0.026))
    direction = np.array([np.cos(angle), np.sin(angle)])
    acceleration, wave = np.zeros(2), np.zeros(2)
    if kind == "accelerating":
        acceleration = rng.uniform(-4e-4, 4e-4, 2)
    if kind == "curving":
        wave = rng.uniform(0.04, 0.12, 2)
    return SceneObject(
        color=color,
        shape=shape,
        size_word=size_word,
        texture=texture,
        size=float(rng.uniform(*SIZES[size_word])),
        aspect=float(np.exp(rng.uniform(-0.22, 0.22))),
        start=rng.uniform(0.1, 0.9, 2),
        velocity=speed * direction,
        acceleration=acceleration,
        wave=wave,
        wave_period=float(rng.uniform(25, 60)),
        phase=rng.uniform(0, 2 * np.pi, 2),
        pulse=float(rng.choice([0.0, rng.uniform(0.04, 0.12)])),
        pulse_period=float(rng.uniform(40, 100)),
        pulse_phase=float(rng.uniform(0, 2 * np.pi)),
        tint=rng.uniform(-14, 14, 3),
    )
