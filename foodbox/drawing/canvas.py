"""Empty figures of matplotlib's, and what is drawn on them as a file."""

from __future__ import annotations

import io
import warnings

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure


def empty(width: float, height: float) -> Figure:
    """A figure of so many inches, for no screen."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def png(figure: Figure, dpi: int = 110) -> bytes:
    """A figure as the bytes of a PNG file."""
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from")  # a name in letters that no font here has
        figure.savefig(buffer, format="png", dpi=dpi)
    return buffer.getvalue()
