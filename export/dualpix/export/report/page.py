"""What every report has: the page's look, plots for a light and a dark page, pictures as data URIs.

A page holds everything it shows, loads nothing and runs no script, reads on a phone, and follows the reader's light or
dark setting. Templates extend ``base.html.j2``, the one place of the look.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import jinja2
from markupsafe import Markup
from matplotlib.figure import Figure

from dualpix.export.report.charts import THEMES, Theme

_TEMPLATES = Path(__file__).parent


def environment() -> jinja2.Environment:
    """Of the templates beside this file; what they are given is text, never markup."""
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


@dataclass(frozen=True)
class Chart:
    """A plot for both themes."""

    light: Markup
    dark: Markup
    text: str
    """For those who do not see it."""


def chart_of(draw: Callable[[Theme], Figure], text: str) -> Chart:
    """A plot that is drawn once for each theme.

    Args:
        draw: the plot of a theme.
        text: for those who do not see it.
    """
    light, dark = (svg_uri(draw(theme)) for theme in THEMES)
    return Chart(light, dark, text)


def svg_uri(figure: Figure) -> Markup:
    """A figure as an SVG data URI, transparent so that it fits any background."""
    out = io.BytesIO()
    figure.savefig(out, format="svg", transparent=True, metadata={"Date": None})
    return data_uri("image/svg+xml", out.getvalue())


def data_uri(kind: str, data: bytes) -> Markup:
    """``data`` of a MIME type."""
    return Markup(f"data:{kind};base64,{base64.b64encode(data).decode()}")  # noqa: S704 - base64 of our own bytes


@dataclass(frozen=True)
class Section:
    """A part of a page, ready to print: a text, plots, a table, pictures, pairs."""

    title: str
    text: str = ""
    charts: tuple[Chart, ...] = ()
    heads: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()
    pictures: tuple[tuple[Markup, str], ...] = ()
    """(data URI, caption)."""
    facts: tuple[tuple[str, str], ...] = ()


def sections_page(title: str, kind: str, subtitle: str, sections: Sequence[Section]) -> bytes:
    """A page of sections, in UTF-8."""
    template = environment().get_template("sections.html.j2")
    return template.render(title=title, kind=kind, subtitle=subtitle, sections=sections).encode()
