"""How much annotators agree: metrics of pairs of masks and what they sum up to."""

from iavlib.agreement.image_level import image_level
from iavlib.agreement.labelled import labelled_images, labelled_pairs

__all__ = ["image_level", "labelled_images", "labelled_pairs"]
