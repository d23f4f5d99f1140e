"""Fundus pictures and outlines drawn on copies of them, as RIGA publishes its own."""

import numpy as np
from PIL import Image, ImageDraw

SIZE = (160, 120)


def fundus(seed):
    generator = np.random.default_rng(seed)
    y, x = np.mgrid[: SIZE[1], : SIZE[0]]
    bright = 120 * np.exp(-((x - 80) ** 2 + (y - 60) ** 2) / 900)
    colours = np.stack([150 + 0.8 * bright, 70 + bright, 30 + 0.5 * bright], axis=-1)
    return np.clip(colours + generator.normal(0, 3, colours.shape), 0, 255).astype(np.uint8)


# A line of 3 pixels, whose middle is one pixel within the radius.
def outlined(picture, disc, cup, middle=(80, 60), cup_shift=0):
    drawn = Image.fromarray(picture)
    pen = ImageDraw.Draw(drawn)
    for radius, shift in ((disc, 0), (cup, cup_shift)):
        x, y = middle[0] + shift, middle[1]
        pen.ellipse([x - radius, y - radius, x + radius, y + radius], outline=(0, 0, 0), width=3)
    return np.asarray(drawn)


def save(pixels, path):
    options = {"quality": 95} if path.suffix == ".jpg" else {}
    Image.fromarray(pixels).save(path, **options)
