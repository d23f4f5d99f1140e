"""Take the pictures of the page "Your own masks": `iav agreement` on invented photographs.

``python tools/own_masks_pictures.py`` writes ``book/images/own_masks_*.png``. It needs Chromium and
selenium (``pip install -e '.[dev]'``).
"""

import shutil
import tempfile
from pathlib import Path

from selenium import webdriver

from iavlib import data
from iavlib.agreement.analysis import analyse

ROOT = Path(__file__).parents[1]
#: Name of the picture to the first heading that it shows, and the first that it does not.
PICTURES = {"outlines": ("Agreement of masks", "Measures"), "areas": ("Areas", "Annotators")}
TOP = "return [...document.querySelectorAll('h1, h2')].find(h => h.innerText.startsWith('{}'))"
TOP += ".getBoundingClientRect().top + window.scrollY - 12"


def write_study(folder: Path) -> None:
    """Write what annotators would hand over: photographs, and a folder of masks each."""
    cohort = data.load("phantom", n_images=40, size=(320, 240), seed=3)
    busiest = cohort.masks["annotator"].value_counts().index[:3]
    people = dict(zip(busiest, ("ann", "bob", "cem"), strict=True))
    masks = cohort.masks[cohort.masks["annotator"].isin(people)]
    masks = masks.drop_duplicates(["image_id", "annotator"])
    masks = masks[masks.groupby("image_id")["annotator"].transform("size") > 1]
    for row in masks.itertuples():
        for source, place in ((row.path, people[row.annotator]), (None, "images")):
            source = source or cohort.images.loc[row.image_id, "path"]
            target = folder / place / f"{row.image_id}{Path(source).suffix}"
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, target)


if __name__ == "__main__":
    options = webdriver.ChromeOptions()
    for argument in ("--headless=new", "--no-sandbox", "--hide-scrollbars"):
        options.add_argument(argument)
    with tempfile.TemporaryDirectory() as name:
        write_study(Path(name) / "study")
        result = analyse(Path(name) / "study", Path(name) / "agreement", log=print)
        browser = webdriver.Chrome(options=options)
        browser.set_window_size(1060, 900)
        browser.get((result.out / "report.html").as_uri())
        height = browser.execute_script("return document.documentElement.scrollHeight")
        screen = {"width": 1060, "height": height, "deviceScaleFactor": 1, "mobile": False}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
        browser.save_screenshot(str(Path(name) / "whole.png"))
        from PIL import Image

        with Image.open(Path(name) / "whole.png") as whole:
            for picture, headings in PICTURES.items():
                top, bottom = (browser.execute_script(TOP.format(h)) for h in headings)
                part = whole.convert("RGB").crop((0, int(top), 1060, int(bottom)))
                target = ROOT / "book" / "images" / f"own_masks_{picture}.png"
                part.quantize(200).save(target, optimize=True)
        browser.quit()
