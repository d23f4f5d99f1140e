"""The phantom: invented lesions, pictures and annotators with known truth.

It stands in where real data are absent, and it is the ground truth of tests: who draws how, and
why two outlines differ, is written down. Its marginals resemble IMA++ (masks an image, mean and
spread of Dice, a small effect of malignancy). It is never presented as real.
"""

from iavlib.data.phantom.build import load

__all__ = ["load"]
