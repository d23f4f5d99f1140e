"""Draw the figure of the README from the stored statistics of notebook 02.

``python tools/readme_figure.py`` writes ``book/images/coefficients.png``.
"""

from pathlib import Path

from iavlib import book, plots

ROOT = Path(__file__).parents[1]
#: Adjustments of the coefficient over pairs of masks, and how the README calls them.
ROWS = {
    "nothing": "no adjustment",
    "tools and skills": "same tools and skills",
    "annotators": "same pair of annotators",
}


def coefficients():
    """Return the coefficients of malignancy on the Dice of pairs of masks, one row each."""
    table = book.stored_tables("02")["specifications"]
    chosen = table[
        (table["unit"] == "pairs of masks")
        & (table["outcome"] == "Dice")
        & (table["subset"] == "all")
        & table["adjustment"].isin(ROWS)
    ].set_index("adjustment")
    return chosen.loc[list(ROWS)].rename(index=ROWS)


if __name__ == "__main__":
    rows = coefficients()[["estimate", "ci_low", "ci_high"]]
    drawing = plots.forest(rows, "Dice, malignant minus benign", reference=0)
    drawing.set_size_inches(6.5, 1.9)
    drawing.savefig(ROOT / "book" / "images" / "coefficients.png", dpi=150)
