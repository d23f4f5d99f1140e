"""Opening the pages of a built book, and asking for its claims."""

import json

import yaml

DESKTOP, PHONE = (1300, 1000), (390, 844)


def pages(project) -> list[str]:
    toc = yaml.safe_load((project / "_toc.yml").read_text())
    return [toc["root"], *(c["file"] for part in toc["parts"] for c in part["chapters"])]


def open_page(browser, project, page: str, size=DESKTOP) -> None:
    browser.set_window_size(*size)
    browser.get((project / "_build" / "html" / f"{page}.html").as_uri())


def claims(iav, project) -> dict[str, dict]:
    output = iav(project, "claims", "--json")
    assert output.returncode == 0, output.stderr
    return {row["id"]: row for row in json.loads(output.stdout)}
