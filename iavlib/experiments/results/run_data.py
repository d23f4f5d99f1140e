"""The data that finished runs stand for, as claims name them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True)
class RunData:
    """Name a claim's data where the page that shows the runs need not have them.

    Attributes
    ----------
    name : str
        Of the cohort.
    synthetic : bool
        Whether its images, or the weights that training began from, mean nothing.
    simulated : bool
        Whether the images are real and their annotators simulated.
    """

    name: str
    synthetic: bool
    simulated: bool = False
    #: For :func:`iavlib.claims.record`: results may be stored ones, of data not on this machine.
    of_runs: ClassVar[bool] = True
