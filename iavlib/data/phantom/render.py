"""The picture of an invented lesion.

Skin with a slow gradient and fine texture; a lesion whose colour fades in over the width of its
ambiguity, so that a reader of the picture could foresee the disagreement; a halo in half-tone;
pigment network in benign lesions and blotches in malignant ones; hairs and a darkened rim on some.
"""

import numpy as np
from PIL import Image, ImageDraw
from scipy import ndimage

from iavlib.data.phantom.lesions import Lesion, Plane

SKIN = np.array([[238, 205, 190], [224, 182, 160], [205, 158, 130], [176, 128, 100]], float)
BROWN = np.array([[120, 72, 48], [95, 55, 40], [140, 90, 60], [75, 45, 38]], float)
BLOTCHES = np.array([[70, 70, 95], [45, 30, 30], [150, 70, 70]], float)


def render(generator: np.random.Generator, lesion: Lesion, plane: Plane) -> np.ndarray:
    """Paint a lesion.

    Returns
    -------
    numpy.ndarray of uint8, shape (height, width, 3)
    """
    shape = plane.x.shape
    image = _skin(generator, plane)
    level = plane.level(lesion.log_radius)
    width = max(0.6 * lesion.ambiguity, 0.02)
    colour = _lesion_colour(generator, lesion, level, shape)
    if lesion.halo:
        faint = 0.3 * _fade(level - lesion.halo, width)[..., None]
        image = image * (1 - faint) + BROWN[2] * faint
    opacity = generator.uniform(0.75, 0.95) * _fade(level, width)[..., None]
    image = image * (1 - opacity) + colour * opacity
    spot = _fade(np.log(np.hypot(*_from_satellite(plane, lesion)) / lesion.satellite[2]), 0.15)
    image = image * (1 - 0.55 * spot[..., None]) + BROWN[1] * 0.55 * spot[..., None]
    if generator.random() < 0.35:
        image = _with_hairs(generator, image)
    if generator.random() < 0.3:
        rim = np.clip(np.hypot(plane.x, plane.y) - 0.55, 0, None)
        image = image * np.exp(-4 * rim)[..., None]
    return np.clip(np.round(image), 0, 255).astype(np.uint8)


def _from_satellite(plane: Plane, lesion: Lesion) -> tuple[np.ndarray, np.ndarray]:
    return plane.x - lesion.satellite[0] + 1e-9, plane.y - lesion.satellite[1]


def _fade(level: np.ndarray, width: float) -> np.ndarray:
    """1 inside, 0 outside, crossing one half at level 0 over the given width."""
    return 1 / (1 + np.exp(np.clip(level / (width / 2), -40, 40)))


def _noise(generator: np.random.Generator, shape, scale: float) -> np.ndarray:
    """Smooth noise of unit spread; `scale` is its grain as a share of the shorter side."""
    sigma = scale * min(shape)
    field = ndimage.gaussian_filter(generator.standard_normal(shape), sigma, mode="wrap")
    return field / max(field.std(), 1e-12)


def _skin(generator: np.random.Generator, plane: Plane) -> np.ndarray:
    mix = generator.dirichlet(np.ones(len(SKIN)))
    slope = generator.uniform(-0.12, 0.12, 2)
    light = 1 + slope[0] * plane.x + slope[1] * plane.y
    texture = 3 * _noise(generator, plane.x.shape, 0.012) + 4 * _noise(
        generator, plane.x.shape, 0.15
    )
    return (mix @ SKIN) * light[..., None] + texture[..., None]


def _lesion_colour(generator, lesion: Lesion, level: np.ndarray, shape) -> np.ndarray:
    base = generator.dirichlet(np.ones(len(BROWN))) @ BROWN
    depth = np.clip(-level, 0, 1.5)[..., None]
    colour = base * (1.15 - 0.25 * depth)
    if lesion.malignancy == "malignant":
        for tint in BLOTCHES:
            strength = 0.6 * generator.random()
            patch = _fade(-_noise(generator, shape, 0.06) + 0.8, 0.6)[..., None] * strength
            colour = colour * (1 - patch) + tint * patch
    else:
        network = _noise(generator, shape, 0.012) * generator.uniform(2, 9)
        colour = colour + network[..., None]
    return colour + 6 * _noise(generator, shape, 0.04)[..., None]


def _with_hairs(generator: np.random.Generator, image: np.ndarray) -> np.ndarray:
    height, width = image.shape[:2]
    layer = Image.new("L", (width, height))
    pen = ImageDraw.Draw(layer)
    thickness = max(1, min(height, width) // 128)
    t = np.linspace(0, 1, 24)
    for _ in range(generator.integers(2, 9)):
        points = generator.uniform(-0.1, 1.1, (3, 2)) * (width, height)
        curve = np.stack([(1 - t) ** 2, 2 * t * (1 - t), t**2], axis=1) @ points
        pen.line([tuple(point) for point in curve.round().astype(int)], 200, thickness)
    shade = np.asarray(layer, float)[..., None] / 255
    return image * (1 - shade) + np.array([45, 32, 28]) * shade
