"""The page of :mod:`.page` where Python shows things: in a notebook's cell, or in the browser.

A cell holds the page in a frame of its own (``srcdoc``), which may run its scripts and can reach nothing of the
notebook. Notebooks keep what they show, so a saved notebook has the page in it, of up to 6 MB.
"""

from __future__ import annotations

import sys
import tempfile
import webbrowser
from dataclasses import dataclass
from html import escape
from pathlib import Path

from dualpix.capture.errors import DualpixError, OutputError
from dualpix.capture.files import make_output_dir, write_bytes

_HEIGHT_PX = 760


@dataclass(frozen=True)
class Page:
    """One HTML file that needs neither a server nor the network."""

    html: bytes
    title: str

    def save(self, path: str | Path) -> Path:
        """Write it.

        Raises:
            OutputError: the name is no page's, or it cannot be written.
        """
        path = Path(path)
        if path.suffix.lower() not in (".html", ".htm"):
            raise OutputError(f"cannot write a page as '{path}'", expected="a name ending in .html")
        make_output_dir(path.parent)
        write_bytes(path, self.html)
        return path

    def open(self) -> Path:
        """Open it in the browser; the file stays in the folder for temporary files, as the browser reads it later.

        Raises:
            DualpixError: there is no browser.
        """
        folder = Path(tempfile.mkdtemp(prefix="dualpix-"))
        path = self.save(folder / "page.html")
        if not webbrowser.open(path.as_uri()):
            raise DualpixError(f"no browser was found for '{path}'", hint="save it with .page().save('page.html')")
        return path

    def _repr_html_(self) -> str:
        document = escape(self.html.decode(), quote=True)
        return (
            f'<iframe title="{escape(self.title, quote=True)}" sandbox="allow-scripts allow-downloads" '
            f'style="width: 100%; height: {_HEIGHT_PX}px; border: 0" srcdoc="{document}"></iframe>'
        )


def in_notebook() -> bool:
    """Whether this process is the kernel of a notebook."""
    ipython = sys.modules.get("IPython")  # a kernel has imported it
    shell = ipython.get_ipython() if ipython is not None else None
    return getattr(shell, "kernel", None) is not None


def display(page: Page) -> None:
    """Show it in the cell that runs, else in the browser.

    Raises:
        DualpixError: neither is there.
    """
    if in_notebook():
        sys.modules["IPython"].display.display(page)
    else:
        page.open()
