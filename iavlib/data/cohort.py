"""The one type that everything downstream takes: images, masks and pairs of masks.

What a diagnosis predicts, the same for every cohort: one number an image, 0 or 1.

For the datasets of melanoma it is melanoma against everything else, for IMA++ and the others
malignant against benign.

Tables that say what a cohort holds.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import pandas as pd

from iavlib.data import schemas
from iavlib.data.splits import STRATIFY, Split, fold_images, split_images
from iavlib.masks.metrics import METRICS, metric_names


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
        missing) and ``subset`` (train, val or test as published, or missing); what is to be
        predicted is told by :func:`iavlib.data.target`.
    masks : pandas.DataFrame
        Index ``mask_id``. Columns: ``image_id``, ``path``, ``annotator``, ``tool``, ``skill``.
        Masks of annotators only; consensus masks are not annotators' work.
    pairs : pandas.DataFrame
        One row per unordered pair of masks of one image: ``image_id``, ``mask_1`` < ``mask_2``,
        ``annotator_1`` …, ``skill_2``, and the metrics registered in :mod:`iavlib.masks.metrics`.
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
        # A metric that is added later must not change which runs belong to these data.
        added = [c for m in METRICS.values() if m.column == "optional" for c in m.columns]
        for table in (self.images, self.masks, self.pairs.drop(columns=added, errors="ignore")):
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

    def select(self, image_ids: Iterable[str]) -> Cohort:
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

    def multi_annotator(self) -> Cohort:
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


REST = ("out", "negative")


def target(cohort: Cohort, rest: str = "out") -> pd.Series:
    """Return the binary target of each image that has one.

    Parameters
    ----------
    cohort : Cohort
    rest : {"out", "negative"}
        What becomes of images whose malignancy is indeterminate or unknown, in a cohort without
        a melanoma label: none of both classes, or 0, which is how the published evaluation of the
        regression counts them.

    Returns
    -------
    pandas.Series of int
        1 for melanoma (or malignant) and 0 otherwise, indexed by image, in the cohort's order and
        without images that have no label.
    """
    if rest not in REST:
        raise ValueError(f"rest={rest!r}: use one of {', '.join(map(repr, REST))}")
    if "melanoma" in cohort.images:
        label = cohort.images["melanoma"]
    else:
        malignancy = cohort.images["malignancy"]
        label = malignancy.map({"benign": 0.0, "malignant": 1.0})
        label = label.fillna(0.0) if rest == "negative" else label
    return label.dropna().astype(int).rename("target")


def target_names(cohort: Cohort) -> tuple[str, str]:
    """Return what 0 and 1 of the target mean."""
    if "melanoma" in cohort.images:
        return "not melanoma", "melanoma"
    return "benign", "malignant"


def label_map(cohort: Cohort) -> pd.DataFrame:
    """Tell what class each of a dataset's own labels becomes, and how many images have it.

    Returns
    -------
    pandas.DataFrame
        One row per label: ``diagnosis`` (and ``diagnosis_group`` where the cohort has one),
        ``malignancy``, ``class`` (as :func:`target_names`, or ``left out``), ``n``, and where
        there are parts the number in each; the most frequent first.
    """
    images = cohort.images
    own = [c for c in ("diagnosis", "diagnosis_group") if c in images]
    classes = target(cohort).map(dict(enumerate(target_names(cohort))))
    table = images[[*own, "malignancy"]].astype(object).fillna("none")
    table["class"] = classes.reindex(images.index).astype(object).fillna("left out")
    keys = list(table)
    counts = table.value_counts().rename("n").to_frame()
    if "subset" in images and images["subset"].notna().any():
        subset = images["subset"].astype(object).fillna("no part")
        by_part = table.assign(subset=subset).value_counts().unstack("subset", fill_value=0)
        order = [p for p in ("train", "val", "test", "no part") if p in by_part]
        counts = counts.join(by_part[order])
    return counts.sort_values("n", ascending=False, kind="stable").reset_index()[
        [*keys, *counts.columns]
    ]


def overview(cohort: Cohort) -> pd.Series:
    """Count images, masks, annotators and pairs, in all and with several masks an image.

    Returns
    -------
    pandas.Series of int
        Indexed by what is counted; ``multi_*`` counts the images with at least two masks.
    """
    multi = cohort.multi_annotator()
    same = cohort.pairs["annotator_1"] == cohort.pairs["annotator_2"]
    patient = multi.images["patient_id"]
    return pd.Series(
        {
            "images": len(cohort.images),
            "masks": len(cohort.masks),
            "annotators": cohort.masks["annotator"].nunique(),
            "multi_images": len(multi.images),
            "multi_masks": len(multi.masks),
            "multi_annotators": multi.masks["annotator"].nunique(),
            "pairs": len(cohort.pairs),
            "pairs_same_annotator": int(same.sum()),
            "pairs_without_overlap": int((cohort.pairs["dice"] == 0).sum()),
            "multi_images_without_patient": int(patient.isna().sum()),
            "multi_patients": patient.nunique(),
            "images_with_file": int(cohort.images["path"].notna().sum()),
            "masks_with_file": int(cohort.masks["path"].notna().sum()),
        },
        name=cohort.name,
    )


def labels(cohort: Cohort) -> pd.DataFrame:
    """Count images by malignancy, in all and among those with at least two masks."""
    multi = cohort.multi_annotator().images
    table = pd.DataFrame(
        {
            "all images": cohort.images["malignancy"].value_counts(),
            "at least two masks": multi["malignancy"].value_counts(),
        }
    )
    return table.fillna(0).astype(int).sort_values("all images", ascending=False)


def licences(cohort: Cohort) -> pd.DataFrame:
    """Count images by licence and source of the data, most frequent first."""
    counts = cohort.images["licence"].fillna("not stated").value_counts()
    return counts.rename("images").rename_axis("licence").to_frame()


def pair_summary(pairs: pd.DataFrame) -> pd.DataFrame:
    """Summarise every metric over pairs: mean, sd (n - 1), minimum, quartiles and maximum."""
    table = (
        pairs[[name for name in metric_names() if name in pairs]]
        .describe()
        .T.rename(columns={"std": "sd"})
    )
    return table.astype({"count": int})


def quality_findings(cohort: Cohort) -> pd.DataFrame:
    """Count the published findings of quality control by issue and severity.

    Returns
    -------
    pandas.DataFrame
        Columns issue, severity, masks (all), multi_masks (on images with at least two masks);
        without rows where the cohort has no published findings.
    """
    findings = cohort.extras.get("qa")
    if findings is None:
        return pd.DataFrame(columns=["issue", "severity", "masks", "multi_masks"])
    multi = set(cohort.multi_annotator().images.index)
    table = findings.assign(multi=findings["image_id"].isin(multi))
    groups = table.groupby(["issue", "severity"])["multi"]
    counts = pd.DataFrame({"masks": groups.size(), "multi_masks": groups.sum()})
    return counts.reset_index().sort_values("masks", ascending=False, ignore_index=True)


def without_overlap(cohort: Cohort) -> pd.DataFrame:
    """List the pairs of masks that share no pixel, with who drew them and on what."""
    columns = ["image_id", "annotator_1", "annotator_2", "tool_1", "tool_2", "hd_normalized"]
    pairs = cohort.pairs.loc[cohort.pairs["dice"] == 0, columns]
    facts = cohort.images[["malignancy", "diagnosis"]]
    return pairs.join(facts, on="image_id").reset_index(drop=True)


def examples_by_agreement(cohort: Cohort, n: int = 3) -> list[str]:
    """Choose images that can be shown, from the lowest to the highest mean Dice.

    Images whose masks are present come first; the choice is evenly spaced in rank.
    """
    with_masks = set(cohort.masks.loc[cohort.masks["path"].notna(), "image_id"])
    shown = cohort.images[cohort.images["path"].notna() & (cohort.images["geometry"] != "cropped")]
    mean_dice = cohort.pairs.groupby("image_id")["dice"].mean()
    candidates = mean_dice[mean_dice.index.isin(shown.index)].sort_values()
    preferred = candidates[candidates.index.isin(with_masks)]
    candidates = preferred if len(preferred) >= n else candidates
    if candidates.empty:
        return []
    ranks = np.linspace(0, len(candidates) - 1, min(n, len(candidates))).round().astype(int)
    return candidates.index[ranks].tolist()


def pictures(cohort: Cohort, image_ids: Iterable[str]) -> list[dict]:
    """Read images and their masks, as :func:`iavlib.plots.outlines` draws them.

    A squashed copy is stretched back to its published shape, so that published outlines fit; a
    cropped copy has lost its position in the published image and gets no outlines.

    Returns
    -------
    list of dict
        ``image`` (array of shape (height, width, 3)), ``masks`` (annotator/tool/skill to array),
        ``title`` and ``size`` (published width and height in pixels).
    """
    from iavlib.data.images import read_image, read_mask

    mean_dice = cohort.pairs.groupby("image_id")["dice"].mean()
    shown = []
    for image_id in image_ids:
        facts = cohort.images.loc[image_id]
        masks = cohort.masks[(cohort.masks["image_id"] == image_id) & cohort.masks["path"].notna()]
        masks = masks.iloc[:0] if facts["geometry"] == "cropped" else masks
        names = [
            "/".join(map(str, row.dropna()))
            for _, row in masks[["annotator", "tool", "skill"]].iterrows()
        ]
        agreement = f", Dice {mean_dice[image_id]:.2f}" if image_id in mean_dice else ""
        shown.append(
            {
                "image": read_image(facts["path"]),
                "masks": dict(zip(names, map(read_mask, masks["path"]), strict=True)),
                "title": f"{image_id}\n{facts['malignancy']}{agreement}",
                "size": (facts["width"], facts["height"]),
            }
        )
    return shown
