"""HTML helpers: escaped text, embedded data, self-contained pages."""

from __future__ import annotations

import html
import json
from pathlib import Path

import numpy as np

from v2a_nb.errors import MediaError
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
