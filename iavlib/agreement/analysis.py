"""Everything about the agreement in a user's folder of masks, written into one output folder.

Tables have the column names under which IMA++ publishes its own; ``report.html`` summarises them.
"""

import errno
import functools
import json
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from iavlib.agreement import annotator_bias, consensus_files, mask_quality, tables
from iavlib.agreement.report import write_report
from iavlib.core.errors import DataError, check_choice
from iavlib.core.files import csv_text, load_template, write_json, write_text
from iavlib.core.processes import run_in_order
from iavlib.core.project import cache_home
from iavlib.data import own_masks
from iavlib.data.cohort import Cohort
from iavlib.data.datasets.folder import OUTSIDE_HINT, Listing, images_table, read_listing
from iavlib.data.datasets.imapp import PUBLISHED_METRIC
from iavlib.data.exports import RESULTS
from iavlib.data.images import read_mask
from iavlib.data.schemas import empty_pairs, pair_columns
from iavlib.masks.metrics import PairOptions, selected_metrics
from iavlib.masks.overlap import fleiss_from_votes, krippendorff_alpha
from iavlib.masks.surfaces import count_codes

_PAIR = {
    **{"image_id": "img_id", "mask_1": "mask1", "mask_2": "mask2"},
    **{"annotator_1": "annotator1", "annotator_2": "annotator2"},
    **PUBLISHED_METRIC,
    **{"tool_1": "tool1", "skill_1": "skill_level1", "tool_2": "tool2", "skill_2": "skill_level2"},
}
_IMAGE = {f"{m}_{s}": f"{n}_{s}" for m, n in PUBLISHED_METRIC.items() for s in ("mean", "std")}
SUMMARY = RESULTS
CONSENSUS, EXPORT = "consensus", "export"


@dataclass(frozen=True)
class Analysis:
    """Result of :func:`analyse`; every table is also a CSV file of its output folder.

    Attributes
    ----------
    out : pathlib.Path
    pairs : pandas.DataFrame
        One row per pair of masks, columns named as in IMA++, then all further metrics.
    images : pandas.DataFrame
        One row per image with at least two usable masks: mean and standard deviation, Fleiss'
        kappa, malignancy and patient.
    findings : pandas.DataFrame
        Quality of masks and annotators.
    consensus : pandas.DataFrame
        One row per consensus mask, with STAPLE's performances and warnings.
    annotators : pandas.DataFrame
        One row per annotator and quantity, with intervals, or the reason why there is none.
    problems : pandas.DataFrame
        Masks that could not be used, each with file and remedy.
    breakdown : pandas.DataFrame
        Means over the pairs by malignancy, patient, tool, skill and annotator, where given.
    measures : pandas.DataFrame
        One row per mask that was compared; see :func:`iavlib.agreement.annotator_measures`.
    area_agreement : pandas.DataFrame
        Of :func:`iavlib.agreement.area_agreement`.
    objects : pandas.DataFrame
        Counts of matched and unmatched objects; see
        :class:`iavlib.data.datasets.folder.Listing`. Empty unless objects are matched.
    cohort : Cohort
        Images, and all masks that were found.
    n_reused : int
        Images whose pairs an earlier run had computed.
    """

    out: Path
    pairs: pd.DataFrame
    images: pd.DataFrame
    findings: pd.DataFrame
    consensus: pd.DataFrame
    annotators: pd.DataFrame
    problems: pd.DataFrame
    breakdown: pd.DataFrame
    measures: pd.DataFrame
    area_agreement: pd.DataFrame
    objects: pd.DataFrame
    cohort: Cohort
    n_reused: int

    @property
    def measured(self) -> Cohort:
        """The cohort without the masks that could not be compared."""
        return replace(self.cohort, masks=self.cohort.masks.loc[self.measures["mask_id"]])

    def __str__(self) -> str:
        """Sum up in a line."""
        other = self.pairs[self.pairs["annotator1"] != self.pairs["annotator2"]]
        n, of = len(self.pairs), self.pairs["img_id"].nunique()
        text = f"{n:,} pair{'s' * (n > 1)} of {of:,} image{'s' * (of > 1)}"
        if len(other):
            dice, hd95, kappa = other[["dice_score", "hd95_score", "kappa"]].mean()
            text += ", mean" if n > 1 else ":"
            text += f" Dice {dice:.3f}, HD95 {hd95:.1f}, kappa {kappa:.3f}"
        if len(self.images) > 1:
            dice = self.images["dice_score_mean"]
            text += f"; lowest Dice {dice.min():.3f} on {dice.idxmin()}"
        return text + f"; {self.n_reused:,} images from an earlier run" * bool(self.n_reused)


def analyse(
    table: str | Path,
    out: str | Path,
    processes: int | None = None,
    tolerance: float = 2.0,
    spacing: float = 1.0,
    methods: tuple[str, ...] = consensus_files.DEFAULT_METHODS,
    progress: bool | Callable[[int, int], None] = False,
    label: str | None = None,
    threshold: float | None = None,
    per_object: bool = False,
    quorum: float | None = None,
    export: tuple[str, ...] = (),
    log: Callable[[str], None] = lambda line: None,
) -> Analysis:
    """Compare, merge and check the masks of a table, and write everything into a folder.

    Parameters
    ----------
    table : str or pathlib.Path
        A table of masks, a folder, or what an annotation tool exported; see
        :mod:`iavlib.data.datasets.folder`.
    out : str or pathlib.Path
        Output folder: new, empty, or of an earlier run, which is then continued.
    processes : int, optional
        One per core unless given.
    tolerance, spacing : float
        Of the boundary metrics; see :class:`iavlib.masks.PairOptions`.
    methods : tuple of str
        Consensus masks to write; see :func:`iavlib.agreement.write_consensus`.
    progress : bool or callable
        See :func:`iavlib.agreement.pair_table`.
    label, threshold, per_object
        Which objects are compared; see :func:`iavlib.data.datasets.folder.read_listing`.
    quorum : float, optional
        Also writes the consensus mask ``quorum``; see :func:`iavlib.agreement.write_consensus`.
    export : tuple of str
        Forms in which the masks are written for other tools: ``coco``, ``nifti``, ``png``,
        ``votes``.
    log : callable
        Receives lines: what was understood, before anything is measured.

    Returns
    -------
    Analysis

    Raises
    ------
    DatasetUnavailable, DataError
        If there is no such table, it contradicts itself, no pair of masks can be compared, there
        are several classes and none is chosen, or the output folder holds something else. A single
        bad mask is a row of ``problems``, which is written in any case.
    """
    try:
        options = PairOptions(extra=True, tolerance=tolerance, spacing=spacing)
    except ValueError as error:
        hint = "give a finite tolerance of 0 or more, and a finite spacing above 0"
        raise DataError("options", str(error), hint) from None
    if quorum is not None and not (0 < quorum < 1 or (quorum >= 1 and float(quorum).is_integer())):
        hint = "give a number of votes, such as 2, or a share of the masks, such as 0.66"
        raise DataError("quorum", f"{quorum:g} is neither", hint)
    methods = methods if quorum is None else (*methods, "quorum")
    for kind in set(export) - set(consensus_files.EXPORTS):
        hint = f"choose some of {', '.join(consensus_files.EXPORTS)}"
        raise DataError("export", f"no form {kind!r}", hint)
    for method in methods:
        check_choice("methods", method, consensus_files.METHODS)
    listing = read_listing(table, False, label, threshold, per_object, progress)
    out, earlier = _output_folder(Path(out))
    if lost := listing.lost_images:
        listing.notes.append(f"{len(lost)} photographs are missing (first {lost[0]})")
    for line in listing.summary():
        log(line)
    if earlier.get("table", str(listing.path)) != str(listing.path):
        log(f"note: {out} holds the results of {earlier['table']}, which are replaced")
    masks = listing.rows.rename(columns={"mask": "mask_id", "mask_path": "path"})
    masks = masks.set_index("mask_id")[["image_id", "path", "annotator", "tool", "skill"]]
    tables.check_table(masks)
    located = masks[listing.rows["hint"].ne(OUTSIDE_HINT).to_numpy()]
    usable = masks[listing.rows["problem"].isna().to_numpy()]
    images = images_table(listing.rows[listing.rows["image_id"].isin(located["image_id"])])
    cohort = Cohort("folder", images, located, empty_pairs(), synthetic=False)
    names = consensus_files.consensus_names(located["image_id"].unique())
    planned = {f"{CONSENSUS}/{name}_{method}.png" for name in names.values() for method in methods}
    planned |= set(earlier["files"])
    write_json(out / SUMMARY, {"table": str(listing.path), "files": sorted(planned)})
    measure = partial(_measure, options, methods, quorum or 0.5, out.resolve())
    run = (listing.looks, options, measure, processes, progress)
    results, n_reused = _measure_all(cohort, usable.index, names, out, *run)
    records = [result["record"] for result in results.values() if result["record"]]
    measured = tables.table_of_records(records, usable, selected_metrics(extra=True))
    problems = pd.concat([_unusable(listing), measured.problems], ignore_index=True)
    lost, known = measured.problems.query("left_out"), listing.left_out()
    listing.leave_out(dict(lost[["mask_id", "problem"]].to_numpy()))
    for line in [line for line in listing.left_out() if line not in known] + [listing.counts()]:
        log(line)
    log("writing tables and the report")
    place = listing.path if listing.path.is_dir() else listing.path.parent
    problems["path"] = [_relative(path, place) for path in problems["path"]]
    for name, frame in (("rows", listing.account), ("problems", problems)):
        write_text(out / f"{name}.csv", csv_text(frame))
    if measured.pairs.empty:
        reasons = [*problems["problem"].head(3), *listing.account["reason"]]
        reason = "; ".join(dict.fromkeys(filter(None, reasons))) or "no image has two masks"
        hint = f"give two annotators' masks of one image; see problems.csv and rows.csv in {out}"
        raise DataError(listing.path, f"no pair of masks can be compared ({reason})", hint)
    cohort = replace(cohort, pairs=measured.pairs[list(pair_columns())])

    def note(text: str) -> None:
        listing.notes.append(text)
        log(f"note: {text}")

    repeated = measured.pairs["annotator_1"] == measured.pairs["annotator_2"]
    if repeated.any():
        mean = measured.pairs.loc[repeated, "dice"].mean()
        text = f"{repeated.sum():,} pairs are two drawings by one annotator (mean Dice {mean:.3f})"
        note(f"{text}; they are in pairs.csv, but in no mean over annotators")
    further = [column for column in measured.pairs if column not in _PAIR]
    votes = {i: np.array(one["votes"]) for i, one in results.items() if one["votes"]}
    consensus = consensus_files.consensus_table(one["consensus"] for one in results.values())
    consensus["path"] = [_relative(path, out.resolve()) for path in consensus["path"]]
    voted = consensus[consensus["method"] == "quorum"]
    if few := int(voted["warnings"].ne("").sum()):
        text = f"the quorum of {quorum:g} votes is more than the masks of {few:,} of the"
        note(f"{text} {len(voted):,} images; consensus masks by quorum of these are empty")
    measures = annotator_bias.measures_table([one["measures"] for one in results.values()])
    checked = {m: found for one in results.values() for m, found in one["checked"].items()}
    findings = mask_quality.findings_table(cohort, checked)
    for issue, n in findings["issue"].value_counts(sort=False).items():
        if issue in (mask_quality.TWICE, annotator_bias.NEAR_DUPLICATE):
            note(f"{n:,} findings “{issue}”, which is no agreement; see findings.csv")
    result = Analysis(
        out=out,
        pairs=measured.pairs[[*_PAIR, *further]].rename(columns=_PAIR),
        images=_image_table(measured.pairs[~repeated], cohort.images, votes),
        findings=findings,
        consensus=consensus,
        annotators=annotator_bias.annotator_summary(measures, cohort.clusters()),
        problems=problems,
        breakdown=_breakdown(measured.pairs[~repeated], cohort.images),
        measures=measures.drop(columns=["problem", "hint"]),
        area_agreement=annotator_bias.area_agreement(measures),
        objects=pd.DataFrame(listing.objects),
        cohort=cohort,
        n_reused=n_reused,
    )
    files = {name: v for name, v in vars(result).items() if isinstance(v, pd.DataFrame)}
    summary = {name: len(frame) for name, frame in files.items()}
    lists = ["masks", "sensitivity", "specificity"]
    rates = consensus[["image_id", "method", *lists]].dropna().explode(lists)
    files["consensus_rates"] = rates.rename(columns={"masks": "of_mask"})
    files["consensus"] = consensus.drop(columns=lists)
    for name, frame in files.items():
        if len(frame.columns):  # none where objects were not matched
            write_text(out / f"{name}.csv", csv_text(frame))
    write_text(out / "columns.md", load_template("iavlib.agreement", "columns.md").render() + "\n")
    alpha = krippendorff_alpha(votes.values())
    unit = "pixels" if spacing == 1 else "in the unit of the spacing"
    write_report(result, listing, cohort, alpha, unit)
    notes = [listing.counts(), *listing.left_out(), *listing.notes]
    written = set(consensus["path"].dropna())
    if export:
        what = result.measured, out / EXPORT, export, spacing, label or "object"
        names = consensus_files.export_masks(*what, processes, progress)
        written |= {f"{EXPORT}/{name}" for name in names}
    for name in planned - written:
        (out / name).unlink(missing_ok=True)
    summary |= {"krippendorff_alpha": alpha, "table": str(listing.path), "files": sorted(written)}
    write_json(out / SUMMARY, summary | {"notes": notes})
    return result


def _output_folder(out: Path) -> tuple[Path, dict]:
    """Create the output folder, and read what an earlier run wrote there.

    Files of somebody else are not touched.
    """
    listed = out / SUMMARY
    try:
        out.mkdir(parents=True, exist_ok=True)
        if any(out.iterdir()) and not (listed.exists() or (out / tables.STORE).exists()):
            raise OSError(errno.ENOTEMPTY, "it holds other files")
        earlier = dict(json.loads(listed.read_text("utf-8"))) if listed.exists() else {}
        if earlier and "files" not in earlier:
            raise ValueError("somebody else's")
        write_json(listed, earlier)  # can anything be written?
        files = [Path(name) for name in earlier.get("files", ())]
    except OSError as error:
        reason = f"the folder cannot be used ({error.strerror or error})"
        raise DataError(out, reason, "choose another folder, new or empty") from None
    except (TypeError, ValueError):
        problem = "damaged, or not written by this command"
        raise DataError(listed, problem, "remove it, or choose another folder") from None
    # Only names that this command gives are ever removed.
    ours = [p for p in files if p.parts[:1] in ((CONSENSUS,), (EXPORT,)) and ".." not in p.parts]
    return out, earlier | {"files": [path.as_posix() for path in ours]}


def _relative(path, folder: Path) -> str | None:
    """Name a file relative to a folder, with slashes; None if it is no file of the user's."""
    if pd.isna(path) or Path(path).is_relative_to(cache_home()):
        return None
    try:
        return Path(os.path.relpath(path, folder)).as_posix()
    except ValueError:  # another drive of Windows
        return Path(path).as_posix()


def _measure_all(
    cohort: Cohort, usable, names, out: Path, looks, options, measure, processes, progress
) -> tuple[dict[str, dict], int]:
    """Measure all images; return the results by image, and how many pairs were known."""
    masks = cohort.masks.assign(usable=cohort.masks.index.isin(usable))
    sizes = cohort.images[["height", "width"]].astype(int)
    with tables.ImageStore(out / tables.STORE) as store:
        keys, tasks = {}, []
        for image_id, group in masks.groupby("image_id", sort=False):
            files = group.loc[group["usable"], "path"].to_dict()
            keys[image_id] = tables.image_key(image_id, files, read_mask, options)
            old = store.reusable(keys[image_id])
            seen = {path: looks[path] for path in files.values() if path in looks}
            tasks.append((image_id, group, tuple(sizes.loc[image_id]), names[image_id], seen, old))
        n_known = sum(task[-1] is not None for task in tasks)

        def keep(result: dict) -> None:
            record = result["record"]
            if record and store.reusable(keys[record["image_id"]]) != record:
                store.append(keys[record["image_id"]], record)

        count = progress, "images measured", keep
        results = run_in_order(measure, tasks, processes, _died, *count)
        store.keep_only(keys.values())
    return dict(zip(keys, results, strict=True)), n_known


#: What is known of an image none of whose masks could be measured.
_NOTHING = {"consensus": [], "measures": [], "votes": None}


def _measure(options: PairOptions, methods, quorum: float, out: Path, task: tuple) -> dict:
    """Do everything that needs the pixels of an image's masks; no image ends the others."""
    try:
        return _measure_image(options, methods, quorum, out, task)
    except Exception as error:  # not enough memory, mostly
        problem, hint = f"{type(error).__name__}: {error}", "leave the image out, or scale it down"
        return _died(task, DataError(task[0], problem, hint))


def _measure_image(options: PairOptions, methods, quorum: float, out: Path, task: tuple) -> dict:
    """Do everything that needs the pixels of an image's masks, reading each file once."""
    image_id, masks, size, name, looks, record = task
    decode = functools.cache(partial(own_masks.decode, looks=looks))
    paths = {m: path if isinstance(path, str) else None for m, path in masks["path"].items()}
    usable = {mask_id: paths[mask_id] for mask_id in masks.index[masks["usable"]]}

    def read(path: str) -> np.ndarray:
        return decode(path)[0]

    if record is None and len(usable) > 1:
        metrics = selected_metrics(options.extra)
        record = tables.compare_image((image_id, usable), read, options, metrics)
    lost = {row["mask_id"] for row in record["problems"] if row["left_out"]} if record else set()
    kept = {mask_id: path for mask_id, path in usable.items() if mask_id not in lost}
    check = partial(mask_quality.check_mask, decode=decode)
    checked = {item[0]: check((*item, size)) for item in paths.items()}
    result = _NOTHING | {"record": record, "checked": checked}
    if len(kept) < 2:
        return result
    who = masks.loc[list(kept), "annotator"]
    rules = {"methods": methods, "out": out / CONSENSUS, "quorum": quorum, "read": read}
    make = partial(consensus_files.consensus_of_image, **rules)
    result["consensus"] = make((image_id, kept, name))
    result["measures"] = annotator_bias.measure_image((image_id, kept, tuple(who)), read)
    first = who.drop_duplicates().index  # one mask of each annotator
    if len(first) > 1 and record["pairs"]:
        votes = sum(read(kept[mask_id]).astype(np.uint8) for mask_id in first)
        result["votes"] = count_codes(votes, len(first) + 1).tolist()
    return result


def _died(task: tuple, error: DataError) -> dict:
    """Return the result of an image whose process died."""
    files = task[1].loc[task[1]["usable"], "path"].to_dict()
    record = tables.lost_record((task[0], files), error) if len(files) > 1 else None
    checked = {mask_id: mask_quality.unreadable((mask_id,), error) for mask_id in task[1].index}
    return _NOTHING | {"record": record, "checked": checked}


def _image_table(pairs: pd.DataFrame, images: pd.DataFrame, votes: dict) -> pd.DataFrame:
    """Average pairs by image; with the chance-corrected agreement and what is known of it."""
    table = tables.image_level(pairs).rename(columns=_IMAGE).rename_axis("img_id")
    kappa = pd.Series({i: fleiss_from_votes(count) for i, count in votes.items()}, dtype=float)
    facts = images.loc[table.index, ["malignancy", "patient_id"]]
    return table.assign(fleiss_kappa=kappa).join(facts)


def _breakdown(pairs: pd.DataFrame, images: pd.DataFrame) -> pd.DataFrame:
    """Average the pairs by what is known about image and annotators; factors of one value drop."""
    malignancy = images["malignancy"].replace("unknown", None)
    factors = {"malignancy": malignancy, "patient": images["patient_id"]}
    factors = {name: pairs["image_id"].map(values) for name, values in factors.items()}
    for name in ("tool", "skill", "annotator"):
        sides = pairs[[f"{name}_1", f"{name}_2"]].dropna()
        two = [" and ".join(sorted(map(str, pair))) for pair in sides.to_numpy()]
        factors[name] = pd.Series(two, sides.index, dtype=object)
    measures, parts = ["dice", "hd95", "assd", "kappa", "nsd"], []
    for name, values in factors.items():
        groups = pairs.groupby(values)
        facts = {"factor": name, "n_images": groups["image_id"].nunique(), "n_pairs": groups.size()}
        part = groups[measures].mean().add_suffix("_mean").assign(**facts)
        parts.append(part.rename_axis("value").reset_index() if len(part) > 1 else part[:0])
    columns = ["factor", "value", "n_images", "n_pairs", *(f"{name}_mean" for name in measures)]
    return pd.concat(parts).reindex(columns=columns)


def _unusable(listing: Listing) -> pd.DataFrame:
    """List as problems the masks that could not be read, whether or not they have a partner."""
    bad = listing.rows[listing.rows["problem"].notna()]
    columns = {"mask": "mask_id", "mask_path": "path"}
    bad = bad.rename(columns=columns).assign(left_out=True)
    return bad[list(tables.PROBLEM_COLUMNS)].astype({"left_out": bool})
