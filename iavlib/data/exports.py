"""What annotation tools export: each format is one function that lists the drawn objects.

To add a format, register a function with :func:`export_reader`: it gets the parsed document (JSON,
or the root of XML) and yields a record per object. A record is a dict: ``image`` (name of the
image's file), ``draw`` (function from width and height of the image to an array of bool; or None,
with a ``reason`` why nothing can be used) and, where known, ``annotator``, ``label``, ``size``
(width and height of the image) and ``where`` (in the document).
"""

import base64
import io
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
from PIL import Image

from iavlib.core.errors import DataError, FetchError
from iavlib.core.files import check_room, content_digests, is_hidden, only_one
from iavlib.core.project import cache_home
from iavlib.data.images import ARRAY_SUFFIXES
from iavlib.data.schemas import IMAGE_SUFFIXES

FORMATS = (
    "masks.csv (also .tsv, .xlsx) with the columns image, mask and annotator; a folder of masks "
    "per annotator (PNG, TIFF, BMP, GIF, JPEG, WebP, NumPy, NIfTI, NRRD); CVAT (XML for images, "
    "Segmentation mask 1.1); Label Studio, COCO or labelme JSON; GeoJSON (QuPath); a zip of these"
)
HINT = f"give one of these: {FORMATS}"
MASK_SUFFIXES = (*IMAGE_SUFFIXES, ".gif", ".webp", *ARRAY_SUFFIXES)
DOCUMENTS = (".json", ".geojson", ".xml")
_MASK, _DOCUMENT = ("|".join(map(re.escape, some)) for some in (MASK_SUFFIXES, DOCUMENTS))
#: What ends the name of an image or of its document, such as ``.png``, ``.ome.tif``, ``.jpg.json``.
_SUFFIX = re.compile(rf"(?i)(?<=.)((\.ome(?=\.tif))?({_MASK}))?({_DOCUMENT})?$", re.DOTALL)
#: A folder with this file holds results of `iav agreement`.
RESULTS = "agreement.json"
#: Names under which tools and users record who drew an object.
WHO = ("annotator", "annotator_id", "rater", "reader", "observer", "created_by", "user", "username")
NOTHING = {"draw": None, "reason": "no object is drawn"}
_AGAIN = "export it again"
#: Masks as uncompressed pictures or text shrink by some hundred times.
_MAX_EXPANSION = 2000

Draw = Callable[[tuple[int, int]], np.ndarray]
Reader = Callable[[Any, Path], Iterator[dict]]
READERS: dict[str, tuple[Callable[[Any], bool], Reader]] = {}


def export_reader(name: str, recognise: Callable[[Any], bool]) -> Callable[[Reader], Reader]:
    """Register a reader of the documents that `recognise` accepts (decorator)."""

    def register(function: Reader) -> Reader:
        READERS[name] = recognise, function
        return function

    return register


def _coco_masks():
    try:
        from pycocotools import mask
    except ImportError:
        hint = "install it with pip install 'iavlib[formats]'"
        raise DataError("outlines and COCO", "pycocotools is needed", hint) from None
    return mask


def polygons(pieces: list, size: tuple[int, int]) -> np.ndarray:
    """Fill polygons by the rule of COCO.

    Parameters
    ----------
    pieces : list of list of array_like, shape (n, 2)
        Each a ring of (x, y) in pixels from the upper left corner of the image, and its holes.
    size : tuple of int
        Width and height of the image.

    Returns
    -------
    numpy.ndarray of bool, shape (height, width)
    """
    mask = np.zeros(size[::-1], bool)
    for ring, *holes in pieces:
        mask |= _fill(ring, size) & ~np.any([_fill(hole, size) for hole in holes], axis=0)
    return mask


def _fill(ring, size: tuple[int, int]) -> np.ndarray:
    points = np.asarray(ring, float)
    if len(points) < 3:
        return np.zeros(size[::-1], bool)
    coco = _coco_masks()
    return coco.decode(coco.frPyObjects([points.ravel().tolist()], *size[::-1]))[..., 0] > 0


def run_lengths(mask: np.ndarray) -> dict:
    """Encode a mask of shape (height, width) as the compressed run lengths of COCO."""
    encoded = _coco_masks().encode(np.asfortranarray(mask, np.uint8))
    return {"size": list(mask.shape), "counts": encoded["counts"].decode()}


def area_and_box(encoded: dict) -> dict:
    """Return the area and the box (left, top, width, height) of run lengths, in pixels."""
    coco = _coco_masks()
    return {"area": int(coco.area(encoded)), "bbox": coco.toBbox(encoded).tolist()}


def _inlay(crop: Callable[[], np.ndarray], left: int, top: int, size) -> np.ndarray:
    """Draw a mask of a part of the image."""
    part, mask = crop(), np.zeros(size[::-1], bool)
    mask[top : top + part.shape[0], left : left + part.shape[1]] = part
    return mask


def _size(place: dict, *keys: str) -> tuple[int, int] | None:
    """Return width and height, which some programs leave out."""
    return tuple(int(place[key]) for key in keys) if all(map(place.get, keys)) else None


def _who(*places: Any) -> str | None:
    named = (place.items() for place in places if isinstance(place, dict))
    found = (v for items in named for k, v in items if k.lower() in WHO and v not in (None, ""))
    return next(map(str, found), None)


@export_reader("COCO", lambda d: isinstance(d, dict) and {"images", "annotations"} <= d.keys())
def read_coco(document: dict, path: Path) -> Iterator[dict]:
    """List the objects of COCO: polygons, and run lengths as numbers or compressed."""
    labels = {one["id"]: str(one["name"]) for one in document.get("categories") or ()}
    images = {image["id"]: image for image in document["images"]}
    for one in document["annotations"]:
        image, drawn = images[one["image_id"]], one.get("segmentation")
        size = drawn["size"][::-1] if isinstance(drawn, dict) else _size(image, "width", "height")
        draw = partial(_coco_object, drawn) if drawn else None
        yield {
            **{"image": image["file_name"], "size": size, "draw": draw},
            **{"annotator": _who(one.get("attributes"), one), "where": f"annotation {one['id']}"},
            **{"label": labels.get(one.get("category_id")), "reason": None if draw else "a box"},
        }
    for image_id in images.keys() - {one["image_id"] for one in document["annotations"]}:
        yield {"image": images[image_id]["file_name"]} | NOTHING


def _coco_object(drawn: list | dict, size: tuple[int, int]) -> np.ndarray:
    if isinstance(drawn, list):
        return polygons([[np.reshape(ring, (-1, 2))] for ring in drawn], size)
    coco = _coco_masks()
    plain = isinstance(drawn["counts"], list)
    if plain and sum(drawn["counts"]) != np.prod(size):  # which the decoder takes as it is
        raise ValueError(f"{sum(drawn['counts'])} pixels, not {size[0]} x {size[1]}")
    return coco.decode(coco.frPyObjects(drawn, *size[::-1]) if plain else drawn) > 0


@export_reader("CVAT for images", lambda d: getattr(d, "tag", "") == "annotations")
def read_cvat(root: ElementTree.Element, path: Path) -> Iterator[dict]:
    """List the objects of CVAT's own format: polygons and masks."""
    by = root.findtext("meta//assignee/username")
    for image in root.iter("image"):
        about = {"image": image.get("name"), "annotator": by}
        about |= {"size": (int(image.get("width")), int(image.get("height")))}
        drawn = [one for one in image if one.tag not in ("tag", "attribute")]
        for number, one in enumerate(drawn, 1):
            draw = None
            if one.tag == "polygon":
                points = [[float(v) for v in p.split(",")] for p in one.get("points").split(";")]
                draw = partial(polygons, [[points]])
            elif one.tag == "mask":
                left, top, w, h = (int(one.get(k)) for k in ("left", "top", "width", "height"))
                draw = partial(_inlay, partial(_runs, one.get("rle").split(","), w, h), left, top)
            attributes = {a.get("name"): (a.text or "").strip() for a in one.iter("attribute")}
            facts = {"label": one.get("label"), "annotator": _who(attributes) or by, "draw": draw}
            where, reason = f"{image.get('name')}, {one.tag} {number}", f"a {one.tag}"
            yield about | facts | {"where": where, "reason": None if draw else reason}
        if not drawn:
            yield about | NOTHING


def _runs(counts: Iterable, width: int, height: int) -> np.ndarray:
    """Decode lengths of runs in rows, of 0 and 1 in turn, the first of 0."""
    lengths = np.array(list(counts), int)
    return np.repeat(np.arange(len(lengths)) % 2 == 1, lengths).reshape(height, width)


def _tasks(document: Any) -> bool:
    first = document[0] if isinstance(document, list) and document else None
    return isinstance(first, dict) and bool({"annotations", "annotation_id"} & first.keys())


def _full_task(task: dict) -> dict:
    """Return a task of the export JSON-MIN, where regions are fields, as the export JSON has it."""
    if "annotations" in task:
        return task
    lists = {k: v for k, v in task.items() if isinstance(v, list)}
    regions = [{**one, "value": one} for v in lists.values() for one in v if isinstance(one, dict)]
    by = {"id": task["annotation_id"], "completed_by": task.get("annotator"), "result": regions}
    return {"data": task, "annotations": [by]}


@export_reader("Label Studio", _tasks)
def read_label_studio(document: list, path: Path) -> Iterator[dict]:
    """List the regions of Label Studio: brush and polygon."""
    tasks, places = list(map(_full_task, document)), []
    for task in tasks:
        texts = [value for value in task["data"].values() if isinstance(value, str)]
        images = [t for t in texts if re.search(r"\.(jpe?g|png|bmp|tiff?|webp|gif)(\?|$)", t, re.I)]
        places.append((images or texts)[0].split("?d=")[-1].split("?")[0])
    alike = len(set(places)) > len({place.rsplit("/", 1)[-1] for place in places})
    for task, place in zip(tasks, places, strict=True):
        name = place if alike else place.rsplit("/", 1)[-1]  # p0/img.png and p1/img.png are two
        name = re.sub(r"^[0-9a-f]{8}-", "", name)  # the prefix of an upload
        for annotation in task["annotations"]:
            by = annotation.get("completed_by")
            by = by.get("email") or by.get("id") if isinstance(by, dict) else by
            facts = {"image": name, "annotator": None if by is None else str(by)}
            facts |= {"where": f"annotation {annotation.get('id')}"}
            drawn = [r for r in annotation["result"] if "original_width" in r]
            if annotation.get("was_cancelled") or not drawn:
                yield facts | NOTHING
                continue
            yield from (facts | _label_studio_region(region) for region in drawn)


def _label_studio_region(region: dict) -> dict:
    value, size = region["value"], (int(region["original_width"]), int(region["original_height"]))
    names = next((v for k, v in value.items() if k.endswith("labels") and v), [None])
    draw, reason = None, f"a region of type {region.get('type')}"
    if region.get("image_rotation"):
        reason = "drawn on an image that was rotated in Label Studio"
    elif "rle" in value:
        draw = partial(brush_mask, value["rle"])
    elif "points" in value:
        draw = partial(polygons, [[np.array(value["points"]) * size / 100]])
    return {"label": names[0], "size": size, "draw": draw, "reason": None if draw else reason}


def brush_mask(rle: list[int], size: tuple[int, int]) -> np.ndarray:
    """Decode the run lengths of Label Studio's brush.

    A stream of bits: number of values (32 bits), bits per value less one (5), four lengths of run
    counters less one (4 each); then blocks of one bit (run or list), two bits (which counter), the
    number of values less one, and the value or the values. They are the red, green, blue and
    opacity of all pixels in rows; the mask is where the opacity is above half.

    Parameters
    ----------
    rle : list of int
        Bytes.
    size : tuple of int
        Width and height.

    Returns
    -------
    numpy.ndarray of bool, shape (height, width)

    Raises
    ------
    ValueError
        If they do not decode to an image of that size.
    """
    bits, position = "".join(map("{:08b}".format, rle)), 0

    def read(n: int) -> int:
        nonlocal position
        position += n
        return int(bits[position - n : position], 2)

    n, word = read(32), read(5) + 1
    counters = [read(4) + 1 for _ in range(4)]
    values, start = np.zeros(n, np.uint8), 0
    while start < n:
        repeated, counter = read(1), read(2)
        end = start + 1 + read(counters[counter])
        values[start:end] = read(word) if repeated else [read(word) for _ in range(start, end)]
        start = end
    return values.reshape(size[1], size[0], 4)[..., 3] > 127


@export_reader("labelme", lambda d: isinstance(d, dict) and {"shapes", "imagePath"} <= d.keys())
def read_labelme(document: dict, path: Path) -> Iterator[dict]:
    """List the shapes of labelme, one file per image: polygons, rectangles and masks."""
    about = {"image": re.split(r"[/\\]", document["imagePath"])[-1]}
    about |= {"size": _size(document, "imageWidth", "imageHeight")}
    for number, one in enumerate(document["shapes"], 1):
        points, kind = np.array(one["points"], float), one.get("shape_type") or "polygon"
        if kind == "rectangle":
            (left, top), (right, bottom) = points.min(axis=0), points.max(axis=0)
            points = np.array([(left, top), (right, top), (right, bottom), (left, bottom)])
        draw = partial(polygons, [[points]]) if kind in ("polygon", "rectangle") else None
        if kind == "mask":
            left, top = points.min(axis=0).astype(int)
            draw = partial(_inlay, partial(_embedded, one["mask"]), left, top)
        facts = {"label": one.get("label"), "annotator": _who(one.get("flags"), one), "draw": draw}
        reason = None if draw else f"a shape of type {kind}"
        yield about | facts | {"where": f"shape {number}", "reason": reason}
    if not document["shapes"]:
        yield about | NOTHING


def _embedded(content: str) -> np.ndarray:
    with Image.open(io.BytesIO(base64.b64decode(content))) as image:
        return np.asarray(image.convert("L")) > 0


def _features(document: Any) -> list:
    found = document.get("features") if isinstance(document, dict) else document
    features = found if isinstance(found, list) else [document]
    return [f for f in features if isinstance(f, dict) and f.get("type") == "Feature"]


@export_reader("GeoJSON", lambda d: bool(_features(d)) or d == {"type": "FeatureCollection"})
def read_geojson(document: Any, path: Path) -> Iterator[dict]:
    """List the polygons of GeoJSON in pixels, one file per image, as QuPath exports them."""
    for number, one in enumerate(_features(document), 1):
        properties, geometry = one.get("properties") or {}, one.get("geometry") or {}
        kind, pieces = geometry.get("type"), geometry.get("coordinates")
        pieces = [pieces] if kind == "Polygon" else pieces if kind == "MultiPolygon" else None
        draw = None
        if pieces:
            pieces = [[np.array(r)[:, :2] for r in rings] for rings in pieces]
            draw = partial(polygons, pieces)
        yield {
            **{"image": properties.get("image") or stem(path.name), "draw": draw},
            **{"label": (properties.get("classification") or {}).get("name")},
            **{"annotator": _who(properties), "where": f"feature {number}"},
            **{"reason": None if draw else f"a geometry of type {kind}"},
        }


def read_document(path: Path) -> tuple[str, list[dict]] | None:
    """Read an exported document: the name of its format and its records; None for any other.

    Raises
    ------
    DataError
        If it is damaged, or lacks what its format demands.
    """
    xml = path.suffix.lower() == ".xml"
    try:
        raw = path.read_bytes()
        document = ElementTree.fromstring(raw) if xml else json.loads(raw)
    except (OSError, ValueError, RecursionError, ElementTree.ParseError) as error:
        raise DataError(path, f"damaged {path.suffix[1:].upper()} ({error})", _AGAIN) from None
    blank = dict.fromkeys(("where", "label", "annotator", "size", "reason"))
    for name, (recognise, read) in READERS.items():
        try:
            if recognise(document):
                return name, [blank | record for record in read(document, path)]
        except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
            problem = f"not readable as {name} ({type(error).__name__}: {error})"
            raise DataError(path, problem, _AGAIN) from None
    return None


def unpack(path: Path) -> Path:
    """Unpack a zip archive into the cache, once for its content; return the folder.

    Raises
    ------
    DataError
        If it is damaged or encrypted, or a member is a link or leads outside.
    """
    from iavlib.data.download import open_archive  # with what else fetching needs

    [key] = content_digests([path])
    folder = cache_home() / "exports" / key[:16] / path.stem
    done = folder.with_name(f"{path.stem}.complete")  # two annotators may send equal files
    with only_one(folder.parent / ".lock", f"unpacking {path}"):
        if done.is_file():
            return folder
        try:
            with open_archive(path, _MAX_EXPANSION) as members:
                check_room(cache_home(), sum(member.size for member in members), str(path))
                for member in members:
                    target = folder / member.path
                    target.parent.mkdir(parents=True, exist_ok=True)
                    with target.open("wb") as stream:
                        stream.writelines(member.chunks())
        except FetchError as error:
            raise DataError(path, f"no readable zip archive ({error})", _AGAIN) from None
        done.write_text("")
    return folder


def list_files(folder: Path, above: tuple[Path, ...] = ()) -> list[tuple[Path, tuple[str, ...]]]:
    """List the files below a folder in order, archives unpacked, with the parts of their names.

    Hidden files and folders of our results are left out, and links to a folder (of `above`, too)
    that holds the link. An archive counts as a folder of its name; the name of a folder or archive
    that lies alone in its folder is no part.
    """
    ours = [path.parent for path in folder.glob(f"*/{RESULTS}")]
    shown = [p for p in sorted(folder.iterdir()) if not is_hidden(p.name) and p not in ours]
    found, above = [], (*above, folder.resolve())
    for path in shown:
        archive = path.suffix.lower() == ".zip" and path.is_file()
        if not archive and not path.is_dir():
            pipe = path.exists() and not path.is_file()  # reading from it would never end
            found += [] if pipe else [(path, (path.name,))]
        elif archive or not any(one.is_relative_to(path.resolve()) for one in above):
            below = list_files(unpack(path) if archive else path, above)
            if len(shown) == 1:
                return below
            name = path.stem if archive else path.name
            found += [(file, (name, *parts)) for file, parts in below]
    return found


def stem(name: str) -> str:
    """Return a file's name without folders and without the suffix of an image, array or document.

    ``img.png.json`` is of ``img.png``; other dots belong to the name.

    Examples
    --------
    >>> [stem(name) for name in ("a/case.1.geojson", "b.JPG.json", "c.ome.tif", "d.nii.gz")]
    ['case.1', 'b', 'c', 'd']
    """
    return _SUFFIX.sub("", os.path.basename(name), 1)


def labelmap(path: Path) -> dict[int, str]:
    """Read the colours and names of ``labelmap.txt``, which CVAT writes beside its masks."""
    line = re.compile(r"^(?!#)([^:\n]+):\s*(\d+),\s*(\d+),\s*(\d+)\s*(?::|$)", re.M)
    try:
        found = line.findall(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise DataError(path, f"not readable as UTF-8 ({error})", _AGAIN) from None
    return {int(r) << 16 | int(g) << 8 | int(b): name.strip() for name, r, g, b in found}
