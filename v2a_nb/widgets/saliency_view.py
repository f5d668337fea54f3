"""A saliency map in the player, and the page that ``v2a-nb saliency`` writes."""

from __future__ import annotations

from typing import Any

from v2a_nb.clip import Clip, Sound
from v2a_nb.saliency.result import Saliency, register_display
from v2a_nb.widgets.page import escape, page_of
from v2a_nb.widgets.player import Player, play

WORDS = {
    "randomization": "likeness of the map under randomized weights (0 is good, from 0.5 on the map is marked)",
    "deletion_blur": "target while the greatest cells are blurred (lower is better)",
    "insertion_blur": "target while only they are shown (higher is better)",
    "faithfulness_blur": "insertion minus deletion",
    "faithfulness_blur_motion": "the same of motion energy, which asked no system",
    "deletion_linear": "deletion, cells filled from around them",
    "insertion_linear": "insertion, cells filled from around them",
    "faithfulness_linear": "insertion minus deletion, filled so",
    "faithfulness_linear_motion": "the same of motion energy",
    "onset_pointing_80ms": "1: the map peaks within 80 ms of an onset of the clip's own sound",
}
"""What the scores of a single clip mean."""


def play_saliency(made: Saliency, clip: Clip, sound: Sound | None = None, *, title: str = "", **options: Any) -> Player:
    """The player with the map over the picture; the title says what it shows and whether it can be believed."""
    return play(clip, sound, title=f"{title or made.title}: {made.verdict}", saliency=made, **options)


def saliency_page(made: Saliency, clip: Clip, sound: Sound | None, name: str) -> str:
    """A complete HTML page: the verdict, the player, the scores and what they mean."""
    rows = "".join(
        f"<tr><td>{escape(key)}</td><td style='text-align:right'>{value:.4g}</td>"
        f"<td>{escape(WORDS.get(key, ''))}</td></tr>"
        for key, value in made.scores.items()
    )
    notes = "".join(f"<li>{escape(note)}</li>" for note in made.notes)
    colour = "#b3261e" if made.marks else "inherit"
    about = f"explained: {made.target}, {made.value:.4g}"
    if made.completeness_error is not None:
        about += f"; attributions miss its change by {100 * made.completeness_error:.1f} % (completeness)"
    body = (
        f"<h1>{escape(name)}</h1><p style='color:{colour};font-weight:600'>{escape(made.verdict)}</p>"
        f"{play_saliency(made, clip, sound, title=made.title).html}"
        f"<p>{escape(about)}</p><table><tr><th>judge</th><th>value</th><th></th></tr>{rows}</table><ul>{notes}</ul>"
    )
    return page_of(f"saliency of {name}", body)


register_display(play=play_saliency)
