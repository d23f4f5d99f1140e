"""LIDC-IDRI: nodules in 1,018 CT scans of the lungs, outlined by four radiologists.

Folders as published: below ``LIDC-IDRI-0001`` and so on, somewhere, one folder per scan with its
slices (``.dcm``) and an ``.xml`` of the four radiologists' readings. Readings are anonymous: the
first of one scan need not be the person of the first of another, so that R1 to R4 name positions.
A reading that marked nothing in a slice which another marked is an empty mask. A marked line lies
just outside of the nodule and does not belong to it; nodules below 3 mm have a point in place of a
line and are left out.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from iavlib.data.catalogue import Layout, register_own
from iavlib.data.cohort import Cohort
from iavlib.data.volumes import Slice, load_slices, read_volume, read_xml, windowed

#: Hounsfield units that become black and white.
LUNG = (-1000, 400)


def load() -> Cohort:
    """Load the slices in which a nodule is outlined.

    Raises
    ------
    DatasetUnavailable, DataError
        As :func:`iavlib.data.volumes.load_slices`.
    """
    readings = sorted(DATASET.folder.rglob("*.xml"))
    readings = [path for path in readings if next(path.parent.glob("*.dcm"), None)]
    return load_slices(DATASET, readings, lambda: _slices(readings))


def _slices(readings: list[Path]) -> Iterator[Slice]:
    import SimpleITK

    for path in readings:
        outlines = read_outlines(path)
        patient = next((one for one in path.parts if one.startswith("LIDC-IDRI-")), path.stem)
        for file in sorted(path.parent.glob("*.dcm")) if outlines else ():
            header = SimpleITK.ImageFileReader()
            header.SetFileName(str(file))
            header.ReadImageInformation()
            drawn = outlines.get(header.GetMetaData("0008|0018").strip("\0 "))
            if drawn:
                picture = windowed(read_volume(file)[0], *LUNG)
                masks = {name: _filled(lines, picture.shape) for name, lines in drawn.items()}
                name = f"{patient}_{path.stem}_{file.stem}"
                yield Slice(name, patient, picture, masks)


def read_outlines(path: Path) -> dict[str, dict[str, list]]:
    """Read the readings of a scan.

    Returns
    -------
    dict of str to dict
        By the slice's UID, the outlines of each reading R1, R2 …: pairs of points (x, y) and
        whether they include or exclude. Slices in which nobody outlined anything are absent.

    Raises
    ------
    DataError
        If the file is not XML.
    """
    sessions = read_xml(path).findall("{*}readingSession")
    names = [f"R{number}" for number in range(1, len(sessions) + 1)]
    slices: dict[str, dict[str, list]] = {}
    for name, session in zip(names, sessions, strict=True):
        for roi in session.iterfind("{*}unblindedReadNodule/{*}roi"):
            edge = roi.findall("{*}edgeMap")
            points = [(int(e.findtext("{*}xCoord")), int(e.findtext("{*}yCoord"))) for e in edge]
            if len(points) > 2:
                included = roi.findtext("{*}inclusion", "TRUE").strip().upper() == "TRUE"
                empty = {each: [] for each in names}
                one = slices.setdefault(roi.findtext("{*}imageSOP_UID").strip(), empty)
                one[name].append((points, included))
    return slices


def _filled(outlines: list, shape: tuple[int, int]) -> np.ndarray:
    """Draw what outlines enclose, the excluded parts last."""
    mask = Image.new("L", shape[::-1])
    for points, included in sorted(outlines, key=lambda one: not one[1]):
        area = Image.new("L", shape[::-1])
        ImageDraw.Draw(area).polygon(points, fill=1, outline=0)
        mask.paste(255 * included, mask=area.point(lambda value: 255 * value))
    return np.asarray(mask)


DATASET = register_own("lidc", load, layout=lambda folder: Layout({"**/*.xml": 1018}, (".",)))
