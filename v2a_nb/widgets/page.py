"""HTML helpers: escaped text, embedded data, self-contained pages."""

from __future__ import annotations

import html
import json
from abc import ABC, abstractmethod
from pathlib import Path

import numpy as np

from v2a_nb.errors import MediaError, V2AError
from v2a_nb.files import HTML_MARK, keep_others, write_text
from v2a_nb.widgets.payload import as_text, encode


def escape(text: object) -> str:
    """Escape any value as text for HTML and its attributes."""
    return html.escape(as_text(text), quote=True)


def json_text(value: object) -> str:
    """JSON for a script element, without ``<``, which could end the element early."""
    return json.dumps(value, allow_nan=False).replace("<", "\\u003c")


def data_uri(kind: str, data: bytes | np.ndarray) -> str:
    """Encode data as a ``data:`` URI of a mime type such as ``image/png``."""
    return f"data:{kind};base64,{encode(data)}"


def page_of(title: str, body: str) -> str:
    """A complete HTML page around ``body``; the title is escaped."""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'{HTML_MARK}<meta name="color-scheme" content="light dark"><title>{escape(title)}</title></head>'
        f'<body style="max-width:1000px;margin:24px auto;padding:0 16px">{body}</body></html>\n'
    )


def save_page(path: str | Path, page: str, overwrite: bool = False) -> Path:
    """Write a page; the file gets its name when it is complete.

    Args:
        path: the file.
        page: as :func:`page_of` gives it.
        overwrite: replace whatever is there; left out, only a page of this package is replaced.

    Raises:
        MediaError: the page cannot be written, or there is a file that is no page of this package.
    """
    if not overwrite:
        keep_others(path, lambda text: HTML_MARK in text[:1000])
    try:
        return write_text(path, page)
    except OSError as error:
        raise MediaError(f"{path}: the page cannot be written: {error.strerror or error}") from error


class Page(ABC):
    """A view that shows itself in a notebook and can be saved as a page.

    Attributes:
        title: of the page.
    """

    title: str

    @property
    @abstractmethod
    def html(self) -> str:
        """The HTML of the static page, which needs no kernel."""

    def _repr_html_(self) -> str:
        try:
            return self.html
        except V2AError as error:  # IPython would print a traceback and go on; this is the same in one line
            return f'<p role="alert"><b>Not possible:</b> {escape(error)}</p>'

    def save(self, path: str | Path, *, overwrite: bool = False) -> Path:
        """Write the static page, which opens in any browser; the file gets its name when it is complete.

        Args:
            path: the file; a page of this package is replaced.
            overwrite: replace any other file as well.

        Raises:
            MediaError: the page cannot be written there, or there is another file.
        """
        return save_page(path, page_of(self.title, self.html), overwrite)
