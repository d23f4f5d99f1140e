"""Self-contained HTML pages from Jinja templates: one file, no network access.

A template extends ``page.html``, which sets a Content-Security-Policy that permits only the
page's own style, script and embedded pictures. Values in HTML are escaped unless they are
:class:`markupsafe.Markup`.
"""

from __future__ import annotations

import base64
from typing import Any

from jinja2 import (
    ChoiceLoader,
    Environment,
    PackageLoader,
    StrictUndefined,
    Template,
    select_autoescape,
)


def load_template(package: str, name: str, **shared: Any) -> Template:
    """Load a template of a package.

    Parameters
    ----------
    package : str
        Name of the package, whose folder ``templates`` holds the file.
    name : str
        File name, such as ``"report.html"``.
    **shared
        Variables of every rendering of the template, and of the macros in it.

    Returns
    -------
    jinja2.Template
        It escapes values in HTML, and refuses variables that are not defined.
    """
    loaders = [PackageLoader(package), PackageLoader("iavlib.core")]
    environment = Environment(
        loader=ChoiceLoader(loaders),
        autoescape=select_autoescape(),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(name, globals=shared)


def data_uri(content: bytes, kind: str = "jpeg") -> str:
    """Encode a picture as an address that contains the picture itself.

    Parameters
    ----------
    content : bytes
        The encoded picture.
    kind : str
        ``"jpeg"`` or ``"png"``.

    Examples
    --------
    >>> data_uri(b"abc", "png")
    'data:image/png;base64,YWJj'
    """
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
