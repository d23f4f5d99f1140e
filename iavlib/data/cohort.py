"""The one type that everything downstream takes: images, masks and pairs of masks."""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

import pandas as pd

from iavlib.data import schemas
from iavlib.data.split import STRATIFY, Split, fold_images, split_images


@dataclass(frozen=True)
class Cohort:
    """Images with the masks that annotators drew on them.

    Attributes
    ----------
    name : str
        Name by which :func:`iavlib.data.load` gives it.
    images : pandas.DataFrame
        Index ``image_id``. Columns: ``path`` (absolute, missing where the file is absent),
        ``malignancy`` (benign, malignant, indeterminate or unknown), ``diagnosis``,
        ``patient_id``, ``lesion_id`` (missing where unknown), ``width`` and ``height`` (pixels
        as published; those of the file where that is not known), ``geometry`` (how the file at
        ``path`` relates to the published pixels: original, squashed or cropped), ``licence``,
        ``sex``, ``age`` (years), ``site``. Cohorts of diagnosis also have ``melanoma`` (1, 0 or
        missing) and ``part`` (train, val or test as published, or missing); what is to be
        predicted is told by :func:`iavlib.data.target`.
    masks : pandas.DataFrame
        Index ``mask_id``. Columns: ``image_id``, ``path``, ``annotator``, ``tool``, ``skill``.
        Masks of annotators only; consensus masks are not annotators' work.
    pairs : pandas.DataFrame
        One row per unordered pair of masks of one image: ``image_id``, ``mask_1`` < ``mask_2``,
        ``annotator_1`` …, ``skill_2``, and the metrics of :data:`iavlib.data.schemas.METRICS`.
        Distances in pixels; ``*_normalized`` divided by the image diagonal.
    synthetic : bool
        True where images were invented by a program.
    citation, licence, source : str
        What to cite, under which terms the data come, and from where they were read.
    extras : mapping of str to pandas.DataFrame
        Tables that only this cohort has (published QA findings, the phantom's truth).
    """

    name: str
    images: pd.DataFrame
    masks: pd.DataFrame
    pairs: pd.DataFrame
    synthetic: bool
    citation: str = ""
    licence: str = ""
    source: str = ""
    extras: Mapping[str, pd.DataFrame] = field(default_factory=dict)

    def __post_init__(self):
        schemas.check_cohort(self.name, self.images, self.masks, self.pairs)

    def __repr__(self) -> str:
        kind = "synthetic, " if self.synthetic else ""
        return (
            f"Cohort({self.name!r}, {kind}{len(self.images):,} images, {len(self.masks):,} masks, "
            f"{len(self.pairs):,} pairs)"
        )

    @cached_property
    def fingerprint(self) -> str:
        """Twelve hexadecimal digits that change when any table, or the files present, change."""
        digest = hashlib.sha256(self.name.encode())
        for table in (self.images, self.masks, self.pairs):
            content = table.assign(path=table["path"].notna()) if "path" in table else table
            digest.update(",".join(map(str, content.columns)).encode())
            digest.update(pd.util.hash_pandas_object(content).to_numpy().tobytes())
        return digest.hexdigest()[:12]

    def clusters(self) -> pd.Series:
        """Return the cluster (patient) of each image, indexed by ``image_id``.

        An image without a patient is a cluster of its own, labelled by the image.
        """
        patient = self.images["patient_id"]
        own = pd.Series("image:" + self.images.index.astype(str), index=self.images.index)
        return ("patient:" + patient.astype("str")).where(patient.notna(), own).rename("cluster")

    def select(self, image_ids: Iterable[str]) -> "Cohort":
        """Return the cohort of these images only, in their order here.

        Raises
        ------
        KeyError
            If an image is not in the cohort.
        """
        wanted = pd.Index(image_ids)
        unknown = wanted.difference(self.images.index)
        if len(unknown):
            raise KeyError(
                f"{self.name}: no image {', '.join(unknown[:5])} ({len(unknown)} unknown)"
            )
        keep = self.images.index.isin(wanted)
        return replace(
            self,
            images=self.images[keep],
            masks=self.masks[self.masks["image_id"].isin(wanted)],
            pairs=self.pairs[self.pairs["image_id"].isin(wanted)].reset_index(drop=True),
        )

    def multi_annotator(self) -> "Cohort":
        """Return the images with at least two annotators' masks (of one or several annotators)."""
        counts = self.masks["image_id"].value_counts()
        return self.select(counts.index[counts >= 2])

    def split(
        self,
        fractions=(0.7, 0.1, 0.2),
        seed: int = 0,
        stratify=STRATIFY,
        group: str | None = "patient",
    ) -> Split:
        """Split the images into parts that share no cluster; see :func:`split_images`.

        Parameters
        ----------
        fractions : sequence or mapping of float
            Shares of the parts, summing to 1; a sequence of three is train, val and test.
        seed : int
            Same seed, same split.
        stratify : sequence of str
            What the parts are balanced over: ``dice_range`` (mean Dice below .5, from .5 to
            below .8, from .8), ``n_masks`` or any column of ``images``.
        group : {"patient", "linked", None} or a column of ``images``
            What must not be torn apart; ``linked`` is what shares a patient or a lesion. None
            treats every image as independent, as the paper does.
        """
        return split_images(self, fractions, seed, stratify, group)

    def fold(
        self,
        fold: int,
        folds: int = 5,
        val: float = 0.125,
        seed: int = 0,
        stratify=STRATIFY,
        group: str | None = "patient",
    ) -> Split:
        """Split for cross-validation, with the parts train, val and test; see :func:`fold_images`.

        Parameters
        ----------
        fold, folds : int
            Which fold, from 0, of how many is the test part.
        val : float
            Share of the other folds that is for validation.
        seed, stratify, group
            As for :meth:`split`.
        """
        return fold_images(self, folds, fold, val, seed, stratify, group)
