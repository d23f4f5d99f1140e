"""The invented lesions: shape, ambiguity of the border, malignancy, patient.

A lesion is star-shaped around its centre. In polar coordinates its true border is

.. math:: \\log r(\\theta) = \\log r_0 + \\sum_k a_k \\cos(k\\theta + \\varphi_k),

with larger radius, larger waves and a more ambiguous border if it is malignant. *Ambiguity* is the
width of the border in units of log radius: the picture shows a transition of that width, and
annotators place their outlines within it. Some lesions have a *halo*, a faint outer zone that one
annotator takes in and another leaves out.

Lengths are in units of the shorter side of the image, so that a lesion is the same at any size.
"""

from dataclasses import dataclass

import numpy as np

N_ANGLES = 720
ANGLES = np.linspace(-np.pi, np.pi, N_ANGLES, endpoint=False)
IMAGES_PER_PATIENT = 4


@dataclass(frozen=True)
class Lesion:
    """One invented lesion.

    Attributes
    ----------
    malignancy : str
        benign, malignant or indeterminate.
    centre : tuple of float
        x and y from the middle of the image.
    log_radius : ndarray, shape (N_ANGLES,)
        Log of the true border's distance from the centre at each of :data:`ANGLES`.
    ambiguity : float
        Width of the border in log radius.
    halo : float
        Log radius by which the faint outer zone exceeds the border; 0 without one.
    satellite : tuple of float
        x, y (from the middle of the image) and radius of a small spot beside the lesion.
    """

    malignancy: str
    centre: tuple[float, float]
    log_radius: np.ndarray
    ambiguity: float
    halo: float
    satellite: tuple[float, float, float]


def draw_lesion(generator: np.random.Generator, patient_effect: float, aspect: float) -> Lesion:
    """Draw a lesion.

    Parameters
    ----------
    generator : numpy.random.Generator
    patient_effect : float
        Log factor on the ambiguity, shared by the lesions of a patient.
    aspect : float
        Longer over shorter side of the image.
    """
    malignancy = generator.choice(["benign", "malignant", "indeterminate"], p=[0.785, 0.211, 0.004])
    malignant = malignancy == "malignant"
    radius = 0.21 * np.exp(0.28 * generator.standard_normal() + (0.12 if malignant else 0))
    radius = min(radius, 0.36)
    waves = np.arange(1, 7)
    amplitude = (0.11 if malignant else 0.07) * generator.standard_normal(6) / waves**0.7
    phase = generator.uniform(-np.pi, np.pi, 6)
    log_radius = np.log(radius) + amplitude @ np.cos(np.outer(waves, ANGLES) + phase[:, None])
    spread = 0.55 * generator.standard_normal() + patient_effect
    ambiguity = 0.07 * np.exp(spread + (0.42 if malignant else 0))
    has_halo = generator.random() < (0.34 if malignant else 0.22)
    halo = generator.uniform(0.35, 1.0) if has_halo else 0.0
    centre = generator.uniform(-0.06, 0.06, 2)
    angle = generator.uniform(-np.pi, np.pi)
    reach = min(radius * np.exp(0.7) + 0.05, 0.43)
    satellite = (reach * aspect * np.cos(angle), reach * np.sin(angle), 0.035)
    return Lesion(
        malignancy=str(malignancy),
        centre=(float(centre[0]), float(centre[1])),
        log_radius=log_radius,
        ambiguity=float(np.clip(ambiguity, 0.02, 0.6)),
        halo=float(halo),
        satellite=tuple(float(value) for value in satellite),
    )


@dataclass(frozen=True)
class Plane:
    """Where the pixels of an image lie, seen from a lesion's centre.

    Attributes
    ----------
    x, y : ndarray, shape (height, width)
        Position of each pixel's middle from the middle of the image.
    log_distance, angle : ndarray, shape (height, width)
        Polar coordinates around the lesion's centre.
    """

    x: np.ndarray
    y: np.ndarray
    log_distance: np.ndarray
    angle: np.ndarray

    @classmethod
    def around(cls, centre: tuple[float, float], width: int, height: int) -> "Plane":
        """Lay out the pixels of an image of this size around a centre."""
        unit = min(width, height)
        x = (np.arange(width) + 0.5 - width / 2) / unit
        y = (np.arange(height) + 0.5 - height / 2) / unit
        x, y = np.meshgrid(x, y)
        right, down = x - centre[0], y - centre[1]
        return cls(x, y, np.log(np.hypot(right, down) + 1e-9), np.arctan2(down, right))

    def level(self, log_radius: np.ndarray) -> np.ndarray:
        """Log distance beyond a border: negative inside, 0 on it, positive outside."""
        return self.log_distance - np.interp(self.angle, ANGLES, log_radius, period=2 * np.pi)

    def disc(self, x: float, y: float, radius: float) -> np.ndarray:
        """Return a disc as a mask; at least the pixel nearest to its centre belongs to it."""
        distance = np.hypot(self.x - x, self.y - y)
        return distance <= max(radius, distance.min())
