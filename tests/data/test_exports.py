"""What annotation tools export: each format in a small file, against masks made otherwise."""

import base64
import functools
import io
import json
import os
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import SimpleITK
from medpy.metric import binary as medpy
from PIL import Image, ImageDraw
from pycocotools import mask as coco
from skimage.draw import polygon2mask

from iavlib import data
from iavlib.agreement.analysis import analyse
from iavlib.core.errors import DataError
from iavlib.data.datasets.folder import read_listing
from iavlib.data.exports import FORMATS, HINT, brush_mask, export_reader, unpack
from iavlib.data.images import read_mask
from iavlib.masks import dice

W, H = 40, 30
Y, X = np.mgrid[:H, :W]
IMAGES = ("img0", "img1", "img2")
ANNOTATORS = {"ann": 8, "bob": 6}


def square(image: int, annotator: str) -> np.ndarray:
    """Corners of a square whose edges run between pixels: every rule fills the same pixels."""
    half = ANNOTATORS[annotator]
    x, y = 15 + 3 * image, 14
    steps = np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)])
    return (x, y) + half * steps


def truth(image: int, annotator: str) -> np.ndarray:
    (left, top), _, (right, bottom), _ = square(image, annotator)
    return (left <= X) & (right > X) & (top <= Y) & (bottom > Y)


EXPECTED = [dice(truth(i, "ann"), truth(i, "bob")) for i in range(3)]


def pairs():
    return [(i, name, who) for i, name in enumerate(IMAGES) for who in ANNOTATORS]


def write(path, content) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))


def save(path, array) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    array = array.astype(np.uint8) * 255 if array.dtype == bool else array
    Image.fromarray(array).save(path)


def photographs(root, suffix=".jpg") -> None:
    for name in IMAGES:
        save(root / "images" / f"{name}{suffix}", np.full((H, W, 3), 90, np.uint8))


def runs(mask) -> list[int]:
    """Lengths of runs of 0 and 1 in turn, over rows."""
    flat = np.concatenate([[False], mask.ravel(), [~mask.ravel()[-1]]])
    changes = np.flatnonzero(flat[1:] != flat[:-1])
    return np.diff([0, *changes]).tolist()


# --- one writer per format -----------------------------------------------------------------------


def coco_document(who, drawn):
    images = [
        {"id": i, "file_name": f"{name}.jpg", "width": W, "height": H}
        for i, name in enumerate(IMAGES)
    ]
    annotations = [
        {"id": 10 * i + k, "image_id": i, "category_id": 1, "segmentation": drawn(i, one), **extra}
        for k, (one, extra) in enumerate(who)
        for i in range(3)
    ]
    categories = [{"id": 1, "name": "lesion"}]
    return {"images": images, "annotations": annotations, "categories": categories}


def coco_polygon(i, who):
    return [square(i, who).ravel().tolist()]


def coco_counts(i, who):
    counts = runs(truth(i, who).T.copy())
    return {"size": [H, W], "counts": counts}


def coco_compressed(i, who):
    encoded = coco.encode(np.asfortranarray(truth(i, who).astype(np.uint8)))
    return {"size": [H, W], "counts": encoded["counts"].decode()}


def coco_files(drawn):
    def make(root):
        for who in ANNOTATORS:
            write(root / f"{who}.json", coco_document([(who, {})], drawn))

    return make


def coco_folders(root):
    for who in ANNOTATORS:
        path = root / who / "annotations" / "instances_default.json"
        write(path, coco_document([(who, {})], coco_polygon))


def coco_attributes(root):
    people = [(who, {"attributes": {"Annotator": who}}) for who in ANNOTATORS]
    write(root / "instances.json", coco_document(people, coco_compressed))


def cvat_xml(who, kind, assignee="", attribute=""):
    images = []
    for i, name in enumerate(IMAGES):
        shapes = ""
        for one in who:
            corners = ";".join(f"{x:.2f},{y:.2f}" for x, y in square(i, one))
            (left, top), _, (right, bottom), _ = square(i, one)
            crop = ", ".join(map(str, runs(truth(i, one)[top:bottom, left:right])))
            inner = f'<attribute name="annotator">{one}</attribute>' if attribute else ""
            shapes += {
                "polygon": f'<polygon label="lesion" points="{corners}">{inner}</polygon>',
                "mask": f'<mask label="lesion" rle="{crop}" left="{left}" top="{top}" '
                f'width="{right - left}" height="{bottom - top}">{inner}</mask>',
            }[kind]
        about = f'id="{i}" name="{name}.jpg" width="{W}" height="{H}"'
        images.append(f"<image {about}>{shapes}</image>")
    meta = f"<meta><job><assignee><username>{assignee}</username></assignee></job></meta>"
    content = f"{meta * bool(assignee)}{''.join(images)}"
    return f'<?xml version="1.0"?><annotations><version>1.1</version>{content}</annotations>'


def cvat_files(kind):
    def make(root):
        for who in ANNOTATORS:
            write(root / f"{who}.xml", cvat_xml([who], kind))

    return make


def cvat_jobs(root):
    for n, who in enumerate(ANNOTATORS):
        write(root / f"job_{n}.xml", cvat_xml([who], "mask", assignee=who))


def cvat_attributes(root):
    write(root / "annotations.xml", cvat_xml(ANNOTATORS, "polygon", attribute="annotator"))


def cvat_masks(root):
    for i, name, who in pairs():
        place = root / who
        colour = np.where(truth(i, who)[..., None], (250, 50, 83), (0, 0, 0)).astype(np.uint8)
        save(place / "SegmentationClass" / f"{name}.png", colour)
        save(place / "SegmentationObject" / f"{name}.png", colour[..., ::-1])
        write(place / "ImageSets" / "Segmentation" / "default.txt", "\n".join(IMAGES))
        text = "# label:color_rgb:parts:actions\nbackground:0,0,0::\nlesion:250,50,83::\n"
        write(place / "labelmap.txt", text)


def label_studio_region(i, who, kind):
    about = {"original_width": W, "original_height": H, "image_rotation": 0, "to_name": "image"}
    if kind == "polygon":
        points = (square(i, who) / (W, H) * 100).tolist()
        value = {"points": points, "polygonlabels": ["lesion"]}
    else:
        value = {"format": "rle", "rle": encode_brush(truth(i, who)), "brushlabels": ["lesion"]}
    return about | {"type": f"{kind}labels", "value": value}


def encode_brush(mask) -> list[int]:
    """Write the bits of a brush, half of the runs as lists of values."""
    values = np.repeat(mask.ravel().astype(int) * 255, 4).tolist()
    bits = f"{len(values):032b}{7:05b}" + "".join(f"{n - 1:04b}" for n in (3, 4, 8, 16))
    start = 0
    while start < len(values):
        end = start
        while end < len(values) and values[end] == values[start] and end - start < 60_000:
            end += 1
        if end - start > 8:
            bits += f"1{3:02b}{end - start - 1:016b}{values[start]:08b}"
        else:
            bits += f"0{1:02b}{end - start - 1:04b}" + "".join(
                f"{v:08b}" for v in values[start:end]
            )
        start = end
    bits += "0" * (-len(bits) % 8)
    return [int(bits[k : k + 8], 2) for k in range(0, len(bits), 8)]


def label_studio(kind, by=lambda who: who):
    def make(root):
        tasks = [
            {
                "id": i,
                "data": {"image": f"/data/upload/1/1a2b3c4d-{name}.jpg"},
                "annotations": [
                    {
                        "id": 9,
                        "completed_by": by(who),
                        "result": [label_studio_region(i, who, kind)],
                    }
                    for who in ANNOTATORS
                ],
            }
            for i, name in enumerate(IMAGES)
        ]
        write(root / "project-1-at-2026.json", tasks)

    return make


def labelme(kind):
    def make(root):
        for i, name, who in pairs():
            shape = {"label": "lesion", "points": square(i, who).tolist(), "shape_type": "polygon"}
            if kind == "rectangle":
                shape |= {"points": square(i, who)[[2, 0]].tolist(), "shape_type": kind}
            if kind == "mask":
                (left, top), _, (right, bottom), _ = square(i, who)
                buffer = io.BytesIO()
                Image.fromarray(truth(i, who)[top:bottom, left:right]).save(buffer, "PNG")
                content = base64.b64encode(buffer.getvalue()).decode()
                points = [[float(left), float(top)], [right - 1.0, bottom - 1.0]]
                shape |= {"points": points, "shape_type": kind, "mask": content}
            about = {"imagePath": f"..\\images\\{name}.jpg", "imageHeight": H, "imageWidth": W}
            write(root / who / f"{name}.json", about | {"shapes": [shape], "flags": {}})

    return make


def geojson(collection):
    def make(root):
        photographs(root)
        for i, name, who in pairs():
            ring = [*square(i, who).tolist(), square(i, who)[0].tolist()]
            feature = {
                "type": "Feature",
                "geometry": {"type": "Polygon", "coordinates": [ring]},
                "properties": {"objectType": "annotation", "classification": {"name": "lesion"}},
            }
            content = (
                {"type": "FeatureCollection", "features": [feature]} if collection else [feature]
            )
            write(root / who / f"{name}.geojson", content)

    return make


def folders(suffix, place="{who}/{name}"):
    def make(root):
        for i, name, who in pairs():
            path = root / f"{place.format(who=who, name=name)}{suffix}"
            path.parent.mkdir(parents=True, exist_ok=True)
            mask = truth(i, who)
            if suffix == ".npy":
                np.save(path, mask)
            elif suffix == ".npz":
                np.savez_compressed(path, mask=mask.astype(float))
            elif suffix in (".nii.gz", ".nrrd", ".mha"):
                SimpleITK.WriteImage(SimpleITK.GetImageFromArray(mask.astype(np.uint8)), path)
            else:
                save(path, mask)

    return make


def zipped(make, nested=False):
    def made(root):
        inside = root / "files"
        make(inside)
        places = [p for p in inside.iterdir() if p.is_dir()] if nested else [inside]
        for place in places:
            with zipfile.ZipFile(root / f"{place.name}.zip", "w") as archive:
                for path in sorted(place.rglob("*")):
                    archive.write(path, path.relative_to(place))
        shutil.rmtree(inside)

    return made


def beside(make, pictures):
    """Make masks, and photographs of other people's skin: colours that no mask has."""

    def made(root):
        make(root)
        for i, name in enumerate(IMAGES):
            rng = np.random.default_rng(i)
            photograph = rng.integers(0, 256, (H, W, 3), dtype=np.uint8)
            save(root / pictures.format(name=name), photograph)

    return made


def painted(pixels, suffix=".png"):
    def make(root):
        for i, name, who in pairs():
            save(root / who / f"{name}{suffix}", pixels(truth(i, who)))

    return make


def colours(background, inside):
    return lambda mask: np.where(mask[..., None], inside, background).astype(np.uint8)


def label_studio_min(root):
    """Write the export JSON-MIN: regions are a field of the task, a row per annotation."""
    rows = [
        {
            **{"image": f"/data/upload/1/1a2b3c4d-{name}.jpg", "id": i, "annotator": who},
            **{"annotation_id": 2 * i, "lead_time": 3.5, "created_at": "2026-01-31"},
            "tag": [{**region["value"], "original_width": W, "original_height": H}],
        }
        for i, name, who in pairs()
        for region in [label_studio_region(i, who, "brush")]
    ]
    write(root / "project.json", rows)


def table(name, lines=("image;mask;annotator",), encoding="utf-8-sig"):
    def make(root):
        folders(".png", "masks/{name}{who}")(root)
        rows = [[name, f"{name}{who}.png", who] for _, name, who in pairs()]
        if name.endswith(".xlsx"):
            frame = pd.DataFrame([[""] * 3, ["image", "mask", "annotator"], *rows])
            frame.to_excel(root / name, index=False, header=False)
        else:
            text = "\r\n".join([*lines, *(";".join(row) for row in rows)])
            (root / name).write_bytes(text.encode(encoding))

    return make


def without(make, *keys):
    """Leave out keys of documents, such as the size of the image; photographs are beside."""

    def made(root):
        make(root)
        photographs(root)
        for path in root.rglob("*.json"):
            document = json.loads(path.read_text())
            for place in (document, *document.get("images", ())):
                place.update({key: None for key in keys if key in place})
            path.write_text(json.dumps(document))

    return made


def moved(make, place, photograph="{name}.jpg"):
    """Give the document of each image and annotator another place, and photographs theirs."""

    def made(root):
        make(root / "made")
        for _, name, who in pairs():
            (path,) = (root / "made" / who).glob(f"{name}.*")
            target = root / f"{place.format(who=who, name=name)}{path.suffix}"
            target.parent.mkdir(parents=True, exist_ok=True)
            path.rename(target)
        shutil.rmtree(root / "made")
        beside(lambda root: None, photograph)(root)

    return made


def coco_per_image(root):
    for i, name, who in pairs():
        document = coco_document([(who, {})], coco_polygon)
        document["images"] = [document["images"][i]]
        document["annotations"] = [document["annotations"][i]]
        write(root / who / f"{name}.json", document)


def cvat_per_image(root):
    for i, name, who in pairs():
        first, *images = cvat_xml([who], "polygon").removesuffix("</annotations>").split("<image ")
        write(root / who / f"{name}.xml", f"{first}<image {images[i]}</annotations>")


def accounts(make):
    """Every annotator has an installation of the tool, in which the only account has number 1."""

    def made(root):
        for number, who in enumerate(ANNOTATORS):
            make(root / who)
            (path,) = (root / who).iterdir()
            tasks = json.loads(path.read_text())
            for task in tasks:
                task["annotations"] = [task["annotations"][number]]
            write(path, tasks)

    return made


FORMAT = {
    "COCO polygons": (coco_files(coco_polygon), "COCO"),
    "COCO counts": (coco_files(coco_counts), "COCO"),
    "COCO compressed": (coco_files(coco_compressed), "COCO"),
    "COCO in folders": (coco_folders, "COCO"),
    "COCO with annotators": (coco_attributes, "COCO"),
    "CVAT polygons": (cvat_files("polygon"), "CVAT for images"),
    "CVAT masks": (cvat_files("mask"), "CVAT for images"),
    "CVAT jobs": (cvat_jobs, "CVAT for images"),
    "CVAT with annotators": (cvat_attributes, "CVAT for images"),
    "CVAT segmentation masks": (cvat_masks, "CVAT segmentation masks"),
    "Label Studio brush": (label_studio("brush"), "Label Studio"),
    "Label Studio polygons": (label_studio("polygon"), "Label Studio"),
    "Label Studio people": (
        label_studio("brush", lambda who: {"id": 7, "email": who}),
        "Label Studio",
    ),
    "labelme polygons": (labelme("polygon"), "labelme"),
    "labelme rectangles": (labelme("rectangle"), "labelme"),
    "labelme masks": (labelme("mask"), "labelme"),
    "GeoJSON collection": (geojson(True), "GeoJSON"),
    "GeoJSON list": (geojson(False), "GeoJSON"),
    "GeoJSON in one folder": (moved(geojson(True), "{name}_{who}"), "GeoJSON"),
    "GeoJSON, annotator first": (moved(geojson(False), "{who}-{name}"), "GeoJSON"),
    "GeoJSON beside images": (moved(geojson(True), "{name}_{who}", "images/{name}.png"), "GeoJSON"),
    "GeoJSON per image": (moved(geojson(True), "{name}/{who}", "{name}/{name}.jpg"), "GeoJSON"),
    "labelme in one folder": (moved(labelme("polygon"), "{name}_{who}"), "labelme"),
    "labelme per image": (moved(labelme("mask"), "{name}/{who}", "{name}/{name}.jpg"), "labelme"),
    "COCO per image": (moved(coco_per_image, "{name}_{who}"), "COCO"),
    "CVAT per image": (moved(cvat_per_image, "{who}_{name}"), "CVAT for images"),
    "Label Studio accounts": (accounts(label_studio("brush", lambda who: 1)), "Label Studio"),
    "PNG": (folders(".png"), "folder of masks"),
    "PNG below masks": (folders(".png", "masks/{who}/{name}_{who}"), "folder of masks"),
    "one class": (folders(".png", "{who}/lesion/{name}_mask"), "folder of masks"),
    "TIFF": (folders(".tif"), "folder of masks"),
    "BMP": (folders(".bmp"), "folder of masks"),
    "GIF": (folders(".gif"), "folder of masks"),
    "WebP": (folders(".webp"), "folder of masks"),
    "MetaImage": (folders(".mha"), "folder of masks"),
    "NumPy": (folders(".npy"), "folder of masks"),
    "NumPy archive": (folders(".npz"), "folder of masks"),
    "NIfTI": (folders(".nii.gz"), "folder of masks"),
    "NRRD": (folders(".nrrd"), "folder of masks"),
    "zip": (zipped(folders(".png")), "folder of masks"),
    "zips": (zipped(cvat_masks, nested=True), "CVAT segmentation masks"),
    "zip of COCO": (zipped(coco_folders), "COCO"),
    "zip of CVAT": (zipped(cvat_files("mask")), "CVAT for images"),
    "zip of Label Studio": (zipped(label_studio("brush")), "Label Studio"),
    "zip of labelme": (zipped(labelme("polygon")), "labelme"),
    "zip of NumPy": (zipped(folders(".npy")), "folder of masks"),
    "zip of a table": (zipped(table("masks.csv")), "CSV table"),
    "COCO without sizes": (without(coco_files(coco_polygon), "width", "height"), "COCO"),
    "labelme without sizes": (without(labelme("polygon"), "imageWidth", "imageHeight"), "labelme"),
    "Label Studio JSON-MIN": (label_studio_min, "Label Studio"),
    "white": (painted(colours((0, 0, 0), (255, 255, 255))), "folder of masks"),
    "red": (painted(colours((0, 0, 0), (255, 0, 0))), "folder of masks"),
    "opaque": (painted(colours((0, 0, 0, 0), (255, 0, 0, 255))), "folder of masks"),
    "black on nothing": (painted(colours((0, 0, 0, 0), (0, 0, 0, 255))), "folder of masks"),
    "half opaque": (painted(colours((0, 0, 0, 0), (0, 255, 0, 128))), "folder of masks"),
    "one": (painted(lambda mask: mask.astype(np.uint8)), "folder of masks"),
    "16 bits": (painted(lambda mask: mask.astype(np.uint16) * 65535), "folder of masks"),
    "JPEG": (painted(lambda mask: mask.astype(np.uint8) * 255, ".jpg"), "folder of masks"),
    "probabilities": (painted(lambda m: np.where(m, 0.9, 0.1).astype("f4"), ".tif"), "folder"),
    "table": (table("masks.csv"), "CSV table"),
    "UTF-16 table": (table("masks.csv", ["sep=;", "image;mask;annotator"], "utf-16"), "CSV table"),
    "table below blank lines": (table("masks.csv", ["", ";;", "Image;Mask;Annotator"]), "CSV"),
    "Excel below a blank line": (table("masks.xlsx"), "XLSX table"),
    "names": (folders(".png", "{name}_{who}"), "named after image and annotator"),
    "annotator first": (folders(".png", "{who}_{name}"), "named after image and annotator"),
    "names with mask": (folders(".png", "{name}-{who}_mask"), "named after image"),
    "names and photographs": (beside(folders(".png", "{name}_{who}"), "{name}.jpg"), "named after"),
    "folder per image": (folders(".png", "{name}/{who}"), "masks per image"),
    "photographs per image": (beside(folders(".png"), "{name}.jpg"), "masks per annotator"),
    "photographs among masks": (beside(folders(".png"), "ann/{name}.jpg"), "masks per annotator"),
    "photographs elsewhere": (beside(folders(".png"), "skin/{name}.jpg"), "masks per annotator"),
}


@pytest.mark.parametrize("name", FORMAT)
def test_every_format_gives_its_masks(tmp_path, name):
    """Counts, annotators and pixels are those of the program that made the file."""
    make, kind = FORMAT[name]
    root = tmp_path / "export"
    root.mkdir()
    make(root)
    found = [*root.iterdir()]
    path = found[0] if len(found) == 1 else root
    listing = read_listing(path)
    assert kind in listing.source.format
    assert set(listing.rows["annotator"]) == set(ANNOTATORS)
    assert sorted(listing.rows["image_id"].str.split("/").str[-1].unique()) == list(IMAGES)
    assert listing.account["status"].tolist() == ["used"] * 6
    for row in listing.rows.itertuples():
        expected = truth(int(row.image_id[-1]), row.annotator)
        np.testing.assert_array_equal(read_mask(row.mask_path), expected)
    assert any("3 images, 2 annotators" in line for line in listing.summary())
    again = read_listing(path)
    assert again.rows["mask_path"].tolist() == listing.rows["mask_path"].tolist()
    found = data.load("folder", path=path).pairs.sort_values("image_id")
    for metric, values in reference().items():
        assert found[metric].tolist() == pytest.approx(values), metric


@functools.cache
def reference() -> dict[str, list[float]]:
    """Compute what other programs compute for the same masks."""
    measured = {"dice": [], "jaccard": [], "hd": [], "assd": []}
    for i in range(3):
        one, two = (truth(i, who) for who in ANNOTATORS)
        overlap = SimpleITK.LabelOverlapMeasuresImageFilter()
        overlap.Execute(*(SimpleITK.GetImageFromArray(m.astype(np.uint8)) for m in (one, two)))
        assert overlap.GetDiceCoefficient() == pytest.approx(medpy.dc(one, two))
        encoded = [coco.encode(np.asfortranarray(m.astype(np.uint8))) for m in (one, two)]
        measured["dice"].append(overlap.GetDiceCoefficient())
        measured["jaccard"].append(coco.iou(encoded[:1], encoded[1:], [0])[0, 0])
        measured["hd"].append(medpy.hd(one, two))
        measured["assd"].append(pooled_assd(one, two))
    return measured


#: The program whose value each metric is compared with; the columns of the table on the page.
TOOLS = {
    "dice": "Dice of SimpleITK",
    "jaccard": "IoU of pycocotools",
    "hd": "HD of medpy",
    "assd": "ASSD from medpy's distances",
}
KINDS = (
    *("COCO", "CVAT for images", "CVAT segmentation masks", "Label Studio", "labelme", "GeoJSON"),
    *("CSV table", "XLSX table"),
)
OF_FILES = "files of masks"


def format_table() -> str:
    """Return the table of the page: what `test_every_format_gives_its_masks` checks, by format."""
    variants = {kind: [] for kind in (*KINDS, OF_FILES)}
    for name, (_, kind) in FORMAT.items():
        known = [one for one in KINDS if kind and one.startswith(kind)]
        variants[known[0] if known else OF_FILES].append(name)
    checks = ["Read", "Images, annotators and objects", "Pixels", *TOOLS.values()]
    lines = [["Format", "Small files in the tests", *checks], [":--"] * (2 + len(checks))]
    for kind, names in variants.items():
        results = ["yes", "as drawn", "as drawn", *["equal"] * len(TOOLS)]
        lines.append([kind, f"{len(names)}: {', '.join(names)}", *results])
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def test_the_page_lists_the_formats_that_are_tested():
    assert reference().keys() == TOOLS.keys()
    page = (Path(__file__).parents[2] / "book" / "own_masks.md").read_text("utf-8")
    _, shown = page.split("<!-- formats in the tests -->\n\n")
    assert shown.split("\n<!-- end of the formats -->")[0] == format_table()


def pooled_assd(one, two) -> float:
    """Average the distances of both surfaces together, as IMA++ does, from medpy's distances."""
    distances = [medpy.__surface_distances(*pair) for pair in ((one, two), (two, one))]
    return np.concatenate(distances).mean()


def test_pictures_exported_by_label_studio(tmp_path):
    """They name the task in place of the image."""
    for n, (i, _, who) in enumerate(pairs()):
        save(tmp_path / f"task-{i}-annotation-{n}-by-{who}-tag-lesion-0.png", truth(i, who))
        save(tmp_path / f"task-{i}-annotation-{n}-by-{who}-tag-hair-1.png", Y > 25)
    listing = read_listing(tmp_path, label="lesion")
    assert listing.source.format == "masks exported by Label Studio"
    assert listing.classes == {"lesion": 6, "hair": 6}
    found = data.load("folder", path=tmp_path, label="lesion").pairs
    assert found["image_id"].tolist() == ["task-0", "task-1", "task-2"]
    assert found["dice"].tolist() == pytest.approx(EXPECTED)


def test_one_photograph_and_two_masks_in_a_folder(tmp_path):
    beside(lambda root: None, "photo_{name}.jpg")(tmp_path)
    for name in IMAGES[1:]:
        (tmp_path / f"photo_{name}.jpg").unlink()
    for who in ANNOTATORS:
        save(tmp_path / f"{who}.png", truth(0, who))
    result = analyse(tmp_path, tmp_path / "out", processes=1)
    assert result.images["dice_score_mean"].to_dict() == {"photo_img0": pytest.approx(EXPECTED[0])}
    assert set(result.pairs.loc[0, ["annotator1", "annotator2"]]) == set(ANNOTATORS)
    found = data.load("folder", path=tmp_path).images["path"]
    assert found.tolist() == [str(tmp_path / "photo_img0.jpg")]
    # the same folder again, which now holds results: they are no masks
    again = analyse(tmp_path, tmp_path / "out", processes=1)
    assert again.images.index.tolist() == ["photo_img0"] and again.n_reused == 1


@pytest.mark.parametrize("make", [geojson(True), labelme("polygon"), coco_per_image])
def test_one_photograph_and_documents_of_two_annotators_in_a_folder(tmp_path, make):
    make(tmp_path / "made")
    for who in ANNOTATORS:
        (path,) = (tmp_path / "made" / who).glob("img0.*")
        path.rename(tmp_path / f"{who}{path.suffix}")
    shutil.rmtree(tmp_path / "made")
    save(tmp_path / "img0.jpg", np.full((H, W, 3), 90, np.uint8))
    found = data.load("folder", path=tmp_path).pairs
    assert found["dice"].tolist() == pytest.approx(EXPECTED[:1])
    assert found.loc[0, ["image_id", "annotator_1", "annotator_2"]].tolist() == [
        "img0",
        *ANNOTATORS,
    ]


@pytest.mark.parametrize("there", [None, "other.jpg"])
@pytest.mark.parametrize("place", ["{name}_{who}", "{who}/{name}"])
def test_a_missing_photograph_is_named(tmp_path, place, there):
    """GeoJSON does not state the size of the image."""
    moved(geojson(True), place)(tmp_path)
    for path in tmp_path.glob("*.jpg"):
        path.unlink()
    if there:
        save(tmp_path / there, np.full((H, W, 3), 90, np.uint8))
    with pytest.raises(DataError, match=r"used: 6 neither .* photograph named img0 "):
        read_listing(tmp_path)


@pytest.mark.parametrize("make", [geojson(True), labelme("polygon")])
def test_documents_named_like_images_are_of_one_annotator(tmp_path, make):
    """Nothing is compared, and nobody is made up."""
    make(tmp_path / "made")
    for path in (tmp_path / "made" / "ann").iterdir():
        path.rename(tmp_path / path.name)
    shutil.rmtree(tmp_path / "made")
    photographs(tmp_path)
    account = read_listing(tmp_path).account
    assert len(set(account["annotator"])) == 1 and account["image_id"].tolist() == list(IMAGES)
    assert set(account["reason"]) == {"no other mask of its image"}


def test_accounts_are_told_apart_only_where_they_meet(tmp_path):
    """Two exports of one account that share no image are hers; several accounts are who drew."""
    for n, half in enumerate((slice(0, 2), slice(2, 3))):
        label_studio("brush")(tmp_path)
        (path,) = tmp_path.glob("project-1*")
        tasks = json.loads(path.read_text())[half]
        write(tmp_path / f"batch{n}.json", tasks)
        path.unlink()
    assert set(read_listing(tmp_path).rows["annotator"]) == set(ANNOTATORS)
    for path in tmp_path.iterdir():
        tasks = json.loads(path.read_text())
        for task in tasks:
            task["annotations"] = task["annotations"][:1]
        write(path, tasks)
    assert set(read_listing(tmp_path, strict=False).account["annotator"]) == {"ann"}


@pytest.mark.parametrize(
    "names", [("img0", "img1", "img2"), ("ISIC_01", "ISIC_02"), ("a", "b_c_d", "e_f", "g", "h")]
)
def test_names_that_tell_no_annotators_are_refused(tmp_path, names):
    for name in names:
        save(tmp_path / f"{name}.png", truth(0, "ann"))
    with pytest.raises(DataError, match="no folders of annotators"):
        read_listing(tmp_path)


@pytest.mark.parametrize("who", [("rater1", "rater2"), ("ann", "bob")])
def test_folders_of_annotators_stay_that(tmp_path, who):
    """Also with more annotators than images, and numbered ones."""
    for image in ("img0", "img1"):
        for one in (*who, "third3"):
            save(tmp_path / one / f"{image}.png", truth(0, "ann"))
    assert set(read_listing(tmp_path).rows["annotator"]) == {*who, "third3"}


@pytest.mark.parametrize("name", ["COCO polygons", "Label Studio brush", "CVAT segmentation masks"])
def test_an_export_goes_all_the_way(tmp_path, name):
    root = tmp_path / "export"
    root.mkdir()
    FORMAT[name][0](root)
    photographs(root)
    lines = []
    result = analyse(root, tmp_path / "out", processes=1, log=lines.append)
    assert result.images["dice_score_mean"].to_dict() == pytest.approx(
        dict(zip(IMAGES, EXPECTED, strict=True))
    )
    assert result.problems.empty and "rows or objects: 6 used" in "\n".join(lines)
    assert len(pd.read_csv(tmp_path / "out" / "rows.csv")) == 6
    cohort = data.load("folder", path=root)
    assert cohort.pairs["dice"].tolist() == pytest.approx(EXPECTED)
    assert cohort.images["path"].map(lambda path: path.endswith(".jpg")).all()
    before = data.fingerprint("folder", path=root)
    first = next(p for p in root.rglob("*") if p.suffix in (".json", ".png"))
    first.write_bytes(first.read_bytes() + b" ")
    assert data.fingerprint("folder", path=root) != before
    options = {"path": root, "threshold": 0.1}
    assert data.fingerprint("folder", **options) != data.fingerprint("folder", path=root)


def test_outlines_are_filled_as_other_tools_fill_them(tmp_path):
    """An irregular outline: equal to pycocotools, and nearly to scikit-image and Pillow."""
    points = [(3.2, 4.1), (30.7, 2.5), (35.1, 20.2), (20.6, 27.3), (18.2, 12.8), (6.4, 25.9)]
    points = np.array(points)
    document = coco_document([("ann", {})], lambda i, who: [points.ravel().tolist()])
    write(tmp_path / "ann.json", document)
    mask = read_mask(read_listing(tmp_path / "ann.json").rows["mask_path"].iloc[0])
    encoded = coco.frPyObjects([points.ravel().tolist()], H, W)
    np.testing.assert_array_equal(mask, coco.decode(encoded)[..., 0])
    assert dice(mask, polygon2mask((H, W), points[:, ::-1] - 0.5)) > 0.97
    drawn = Image.new("1", (W, H))
    ImageDraw.Draw(drawn).polygon([tuple(p) for p in points], fill=1)
    assert dice(mask, np.asarray(drawn)) > 0.93


def test_holes_and_several_pieces(tmp_path):
    outer, hole = [[2, 2], [22, 2], [22, 22], [2, 22]], [[8, 8], [14, 8], [14, 14], [8, 14]]
    other = [[30, 5], [36, 5], [36, 10], [30, 10]]
    geometry = {"type": "MultiPolygon", "coordinates": [[outer, hole], [other]]}
    feature = {"type": "Feature", "geometry": geometry, "properties": {}}
    line = feature | {"geometry": {"type": "LineString", "coordinates": outer}}
    collection = {"type": "FeatureCollection", "features": [feature, line]}
    for who in ANNOTATORS:
        write(tmp_path / who / "img0.geojson", collection)
    with pytest.raises(DataError, match="put the photograph beside"):
        read_listing(tmp_path)
    photographs(tmp_path)
    listing = read_listing(tmp_path)
    assert read_mask(listing.rows["mask_path"].iloc[0]).sum() == 20 * 20 - 6 * 6 + 6 * 5
    assert listing.account["reason"].tolist()[1] == "a geometry of type LineString"


def test_brush_of_label_studio_as_its_own_program_writes_it():
    """Bytes written by label-studio-sdk 2.1.2 (converter.brush.mask2rle) for a disc of 9 x 13."""
    y, x = np.mgrid[:9, :13]
    disc = np.hypot(x - 5, y - 4) < 3.3
    rle = bytes.fromhex(
        "000001d4391bfe4300b7ff88c0309ffe1b00c37ff85c030dffe1700c37ff86c0309ffe2300b7ff92c000"
    )
    np.testing.assert_array_equal(brush_mask(list(rle), (13, 9)), disc)
    with pytest.raises(ValueError):
        brush_mask(rle, (14, 9))
    with pytest.raises(ValueError):
        brush_mask(rle[:20], (13, 9))


def test_what_is_not_a_mask_is_counted_with_its_reason(tmp_path):
    document = coco_document([(who, {"annotator": who}) for who in ANNOTATORS], coco_polygon)
    document["annotations"][0] |= {"segmentation": []}
    document["images"].append({"id": 7, "file_name": "img7.jpg", "width": W, "height": H})
    write(tmp_path / "all.json", document)
    listing = read_listing(tmp_path / "all.json")
    reasons = listing.account.groupby("image_id")["reason"].agg(list).to_dict()
    assert reasons == {
        "img0": ["a box", "no other mask of its image"],
        **{"img1": ["", ""], "img2": ["", ""], "img7": ["no object is drawn"]},
    }
    text = "\n".join([*listing.summary(), listing.counts()])
    assert "7 rows or objects: 4 used, 0 merged, 3 left out" in text
    assert "left out: 1, a box (first all.json, annotation 0)" in text


def test_skipped_and_other_regions_of_label_studio(tmp_path):
    label_studio("brush")(tmp_path)
    path = next(tmp_path.iterdir())
    tasks = json.loads(path.read_text())
    tasks[0]["annotations"][0] |= {"result": []}
    region = tasks[1]["annotations"][0]["result"][0]
    region |= {"type": "rectanglelabels", "value": {"x": 1, "y": 1, "width": 5, "height": 5}}
    tasks[2]["annotations"][0]["result"][0]["image_rotation"] = 90
    path.write_text(json.dumps(tasks))
    with pytest.raises(DataError, match="no pair of masks can be compared"):
        analyse(path, tmp_path / "out")
    account = read_listing(path, strict=False).account
    assert account["reason"].tolist()[::2] == [
        "no object is drawn",
        "a region of type rectanglelabels",
        "drawn on an image that was rotated in Label Studio",
    ]


# --- classes -------------------------------------------------------------------------------------


def two_classes(root, form):
    """Lesion (a square) and hair (a strip) of each annotator, as colours, numbers or folders."""
    for i, name, who in pairs():
        lesion, hair = truth(i, who), (Y > 25) & (10 + i > X)
        numbers = np.where(lesion, 1, np.where(hair, 2, 0)).astype(np.uint8)
        if form == "folders":
            save(root / who / "lesion" / f"{name}.png", lesion)
            save(root / who / "hair" / f"{name}.png", hair)
        elif form == "numbers":
            save(root / who / f"{name}.png", numbers)
        else:
            colours = np.zeros((H, W, 3), np.uint8)
            colours[lesion], colours[hair] = (128, 0, 0), (0, 128, 0)
            place = root / who / ("SegmentationClass" if form == "labelmap" else "")
            if form == "palette":
                image = Image.fromarray(numbers, "P")
                image.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0])
                place.mkdir(parents=True, exist_ok=True)
                image.save(place / f"{name}.png")
            else:
                save(place / f"{name}.png", colours)
            if form == "labelmap":
                write(
                    root / who / "labelmap.txt",
                    "background:0,0,0::\nlesion:128,0,0::\nhair:0,128,0::\n",
                )


CLASSES = {
    "folders": ("lesion", "hair"),
    "numbers": ("1", "2"),
    "colours": ("#800000", "#008000"),
    "palette": ("#800000", "#008000"),
    "labelmap": ("lesion", "hair"),
}


@pytest.mark.parametrize("form", CLASSES)
def test_classes_are_offered_and_never_merged_unasked(tmp_path, form):
    two_classes(tmp_path, form)
    lesion, hair = CLASSES[form]
    with pytest.raises(DataError, match=rf"2 classes .*{lesion} \(6\).*--label"):
        read_listing(tmp_path)
    with pytest.raises(DataError, match="no class 'nail'"):
        read_listing(tmp_path, label="nail")
    for label, dice_of_pair in ((lesion, EXPECTED), (hair, [1.0] * 3)):
        cohort = data.load("folder", path=tmp_path, label=label)
        assert cohort.pairs["dice"].tolist() == pytest.approx(dice_of_pair)
    for label in ("any", f"{lesion}, {hair}"):
        mask = read_mask(read_listing(tmp_path, label=label).rows["mask_path"].iloc[0])
        np.testing.assert_array_equal(mask, truth(0, "ann") | ((Y > 25) & (X < 10)))


@pytest.mark.parametrize("form", ["numbers", "colours", "labelmap"])
def test_a_map_without_the_class_is_an_empty_mask(tmp_path, form):
    """Whoever drew no hair on an image where another did disagrees; both blank agree."""
    two_classes(tmp_path, form)
    below = "SegmentationClass" if form == "labelmap" else ""
    shape = (H, W) if form == "numbers" else (H, W, 3)
    save(tmp_path / "bob" / below / "img0.png", np.zeros(shape, np.uint8))
    cohort = data.load("folder", path=tmp_path, label=CLASSES[form][1])
    assert cohort.pairs["dice"].tolist() == [0, 1, 1]


def test_an_object_that_cannot_be_decoded_is_counted(tmp_path):
    label_studio("brush")(tmp_path)
    path = next(tmp_path.iterdir())
    tasks = json.loads(path.read_text())
    tasks[0]["annotations"][0]["result"][0]["value"]["rle"] = [0, 0, 1]
    path.write_text(json.dumps(tasks))
    account = read_listing(path).account
    assert account["status"].tolist() == ["left out"] * 2 + ["used"] * 4
    assert account["reason"].iloc[0].startswith("damaged")


def test_class_by_class_on_the_command_line(tmp_path):
    from typer.testing import CliRunner

    from iavlib.cli.main import app

    two_classes(tmp_path / "in", "labelmap")
    arguments = [
        "agreement",
        str(tmp_path / "in"),
        "--out",
        str(tmp_path / "out"),
        "--processes",
        "1",
    ]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 2 and "hair (6)" in done.output
    done = CliRunner().invoke(app, [*arguments, "--label", "all"])
    assert done.exit_code == 0, done.output
    for name, expected in (("lesion", EXPECTED), ("hair", [1.0] * 3)):
        pairs = pd.read_csv(tmp_path / "out" / name / "pairs.csv")
        assert pairs["dice_score"].tolist() == pytest.approx(expected)


def test_classes_of_objects(tmp_path):
    document = coco_document([(who, {"annotator": who}) for who in ANNOTATORS], coco_polygon)
    document["categories"].append({"id": 2, "name": "hair"})
    for one in document["annotations"][3:]:
        one["category_id"] = 2
    write(tmp_path / "all.json", document)
    with pytest.raises(DataError, match=r"lesion \(3\), hair \(3\)"):
        read_listing(tmp_path / "all.json")
    assert read_listing(tmp_path / "all.json", label="HAIR").rows["annotator"].unique() == ["bob"]


# --- refusals ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("a.pdf", b"%PDF\n1", "no column"),
        ("a.json", b"{", "damaged JSON"),
        ("a.json", b'{"a": 1}', "no format that is read"),
        ("a.json", b'{"images": [], "annotations": [{"id": 1}]}', "not readable as COCO"),
        ("a.xml", b"<a>", "damaged XML"),
        ("a.xml", b"<a/>", "no format that is read"),
        ("a.zip", b"PK", "no readable zip"),
        ("a.xlsx", b"PK", "no readable Excel"),
        ("a.png", b"", "one mask alone"),
        ("a.nii.gz", b"", "one mask alone"),
        ("d/a.png", b"", "no folders of annotators, but files 1 .png"),
        ("d/a.docx", b"", "1 .docx"),
    ],
)
def test_what_is_not_read_is_named_with_what_is(tmp_path, name, content, told):
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    (tmp_path / "other.txt").write_text("")
    place = path.parent if "/" in name else path
    with pytest.raises(DataError, match=told) as caught:
        read_listing(place)
    assert str(place) in caught.value.where
    if told.startswith(("no format", "one mask", "no folders")):
        assert caught.value.hint == HINT and FORMATS in HINT


def test_one_annotator_alone_has_nothing_to_compare(tmp_path):
    write(tmp_path / "ann.xml", cvat_xml(["ann"], "polygon"))
    with pytest.raises(DataError, match=r"no other mask of its image.*two annotators"):
        analyse(tmp_path / "ann.xml", tmp_path / "out")


def test_a_format_is_one_function(tmp_path):
    from iavlib.data import exports

    @export_reader("dots", lambda document: isinstance(document, dict) and "dots" in document)
    def read_dots(document, path):
        for who, radius in document["dots"].items():
            draw = lambda size, radius=radius: np.hypot(X - 15, Y - 14) < radius  # noqa: E731
            yield {"image": "img0", "annotator": who, "draw": draw, "size": (W, H)}

    try:
        write(tmp_path / "a.json", {"dots": {"ann": 8, "bob": 6}})
        pairs = data.load("folder", path=tmp_path / "a.json").pairs
    finally:
        del exports.READERS["dots"]
    distance = np.hypot(X - 15, Y - 14)
    assert pairs["dice"].iloc[0] == pytest.approx(dice(distance < 8, distance < 6))


@pytest.mark.parametrize(
    "member", ["../outside.png", "/absolute.png", "C:\\x.png", "a/../../b.png"]
)
def test_archives_that_lead_outside_are_refused(tmp_path, member):
    path = tmp_path / "in" / "export.zip"
    path.parent.mkdir()
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(member, b"x")
    with pytest.raises(DataError, match=r"export\.zip.*no readable zip archive"):
        unpack(path)
    assert not list(tmp_path.rglob("outside.png")) and not list(tmp_path.rglob("b.png"))


def test_an_archive_is_known_by_its_content(tmp_path):
    """The same name, size and time do not make it the same archive."""
    path, shown = tmp_path / "export.zip", []
    for content in (b"first", b"other"):
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(zipfile.ZipInfo("ann1/img.txt"), content)
        os.utime(path, ns=(10**18, 10**18))
        shown.append((unpack(path) / "ann1" / "img.txt").read_bytes())
    assert shown == [b"first", b"other"]
