"""Reading pages back: what tests of players, explorers and browsers look at."""

from __future__ import annotations

import base64
import io
import wave
from html.parser import HTMLParser

import numpy as np


class Tags(HTMLParser):
    """Every element that the HTML opens, all of them closed again, and the text outside of scripts and styles."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict]] = []
        self.words: list[str] = []
        self.inside: list[str] = []
        self.feed(page)
        assert not self.inside, "every element is closed"

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in ("img", "br", "meta", "input", "source"):
            self.inside.append(tag)

    def handle_endtag(self, tag):
        assert self.inside.pop() == tag

    def handle_data(self, data):
        if not {"script", "style"} & set(self.inside):
            self.words.append(data)

    def all(self, tag: str) -> list[dict]:
        return [attrs for name, attrs in self.tags if name == tag]


def wav_of(uri: str) -> tuple[np.ndarray, int]:
    """Samples int16 [channels, n] and rate of a WAV file in a data address."""
    data = base64.b64decode(uri.removeprefix("data:audio/wav;base64,"))
    with wave.open(io.BytesIO(data)) as file:
        samples = np.frombuffer(file.readframes(file.getnframes()), "<i2").reshape(-1, file.getnchannels())
        return samples.T, file.getframerate()
