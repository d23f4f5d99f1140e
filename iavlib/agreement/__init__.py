"""How much annotators agree: metrics of pairs of masks and what they sum up to."""

from iavlib.agreement.image_level import image_level

__all__ = ["image_level"]
