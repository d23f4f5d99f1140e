"""What somebody writes who adds a metric: one file outside of iavlib with one function."""

from iavlib.masks import register_metric


@register_metric("volume_similarity")
def volume_similarity(pair):
    """Return one minus the relative difference of the two areas."""
    return 1 - abs(pair.a.area - pair.b.area) / (pair.a.area + pair.b.area)
