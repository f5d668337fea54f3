"""Tokens that follow given hits: windows are exchanged where something was changed, and nowhere else."""

from __future__ import annotations

import pytest
import torch

from v2a_nb.errors import UsageError
from v2a_nb.hits import Hit, Hits
from v2a_nb.hub import tag_of
from v2a_nb.models.video_encoders import hit_windows
from v2a_nb.models.video_encoders.hit_windows import (
    AFTER,
    BEFORE,
    Event,
    Reading,
    Windows,
    following,
    keep_windows,
    kept_windows,
    windows_of,
)
from v2a_nb.models.video_encoders.strike import StrikeVision
from v2a_nb.systems.registry import load
from v2a_nb.world import strike_world

N = 150  # three seconds
CHANNELS = {"timing": 192, "content": 96, "flux": 12}
OWN, STRUCK, STILL = 1.0, 2.0, 0.0  # what channels hold: the clip's, those of windows, those of a still moment


def windows() -> Windows:
    """Four windows, one for each quarter of a token; embeddings are 20, 21, 22, 23."""
    parts = [torch.full((4, BEFORE + AFTER, width), STRUCK) for width in CHANNELS.values()]
    embedding = torch.arange(20.0, 24.0)[:, None].expand(4, 72)
    still = {"still_timing": torch.full((192,), STILL), "still_flux": torch.full((12,), STILL)}
    timing, content, flux = parts
    return Windows.of(
        timing=timing, content=content, flux=flux, embedding=embedding, phase=torch.arange(4), **still
    )  # fmt: skip


def event(step: int, probability: float = 1.0, value: float = 5.0) -> Event:
    return Event(step, torch.tensor(probability), torch.full((72,), value))


def follow(events: list[Event], hits: Hits):
    clip = [torch.full((N, width), OWN) for width in CHANNELS.values()]
    made = following(*clip, events, hits, windows())
    assert all((part == OWN).all() for part in clip), "the clip's own features stay what they are"
    return made


def spans(timing: torch.Tensor, value: float) -> list[int]:
    return (timing[:, 0] == value).nonzero()[:, 0].tolist()


def test_hits_that_stay_keep_every_token_and_are_certain():
    events = [event(100, 0.95, 5.0), event(300, 0.99, 6.0)]
    *features, now = follow(events, Hits([0.5, 1.5]))
    assert all((part == OWN).all() for part in features)
    assert [(e.step, float(e.probability), float(e.embedding[0])) for e in now] == [(100, 1.0, 5.0), (300, 1.0, 6.0)]


def test_a_removed_hit_leaves_a_still_moment_and_content_as_it_was():
    timing, content, flux, now = follow([event(100), event(300)], Hits([1.5]))
    still = spans(timing, STILL)
    assert still == spans(flux, STILL) and still[0] < 25 - 3 and still[-1] > 25 + 8 and len(still) < 24
    assert (content == OWN).all() and [e.step for e in now] == [300]
    assert (timing[: 25 - BEFORE] == OWN).all() and (timing[25 + AFTER :] == OWN).all()
    assert timing.min() >= 0 and ((timing > 0) & (timing < 1)).any(), "the window fades in and out"


def test_a_removed_hit_never_touches_the_core_of_its_neighbour():
    timing, *_ = follow([event(100), event(120)], Hits([0.6]))  # 0.1 s apart
    assert (timing[30 - 3 : 30 + 6] == OWN).all() and (timing[20:26] == STILL).all()


def test_a_new_hit_gets_a_window_of_its_quarter_and_sounds_like_its_neighbour():
    timing, content, flux, now = follow([event(100, value=5.0), event(400, value=6.0)], Hits([0.5, 1.51, 2.0]))
    struck = spans(timing, STRUCK)
    assert struck == spans(content, STRUCK) == spans(flux, STRUCK) and 302 // 4 in struck
    assert (timing[20:30] == OWN).all() and (timing[98:] == OWN).all()
    new = now[1]
    assert (new.step, float(new.probability), float(new.embedding[0])) == (302, 1.0, 6.0)
    alone = follow([], Hits([1.51]))[-1][0]
    assert float(alone.embedding[0]) in (20, 21, 22, 23), "a clip in which nothing is expected gets a window's"


def test_a_moved_hit_keeps_its_material_and_leaves_silence():
    timing, _, _, now = follow([event(100, value=5.0), event(300, value=6.0)], Hits([Hit(0.9, moved_from_s=0.5), 1.5]))
    assert [(e.step, float(e.embedding[0])) for e in now] == [(180, 5.0), (300, 6.0)]
    assert timing[25, 0] == STILL and timing[45, 0] == STRUCK and timing[75, 0] == OWN


def test_a_doubted_hit_that_is_to_sound_gets_a_window_as_well():
    for probability, expected in ((0.0, 6.0), (0.6, 5.0), (0.95, 5.0)):
        events = [event(100, probability, 5.0), event(300, 1.0, 6.0)]
        timing, *_, now = follow(events, Hits([Hit(0.5, probability, origin="model"), 1.5]))
        assert float(now[0].embedding[0]) == expected, "of what is likely the material is believed"
        assert timing[25, 0] == (OWN if probability > 0.9 else STRUCK)


def test_hits_near_each_other_and_at_the_edges_all_have_their_core():
    hits = Hits([0.0, 0.08, 0.16, 2.995])
    timing, _, flux, now = follow([], hits)
    assert [e.step for e in now] == [0, 16, 32, 599] and len(timing) == len(flux) == N
    assert all(timing[token, 0] == STRUCK for token in (0, 4, 8, 149))
    assert follow([event(100)], Hits())[-1] == []


def test_an_encoder_that_is_sure_of_nothing_says_so(monkeypatch):
    monkeypatch.setattr(hit_windows, "CLIPS", 1)

    class Doubter:
        config = StrikeVision().config

        def reading(self, clip):
            n = round(50 * clip.duration)
            return Reading(torch.zeros(n, 192), torch.zeros(n, 96), torch.zeros(n, 12), [])

    with pytest.raises(UsageError, match="sure of no hit in Strike World"):
        windows_of(Doubter())


@pytest.fixture(scope="module")
def encoder():
    return load("vaura").encoder


def test_windows_of_the_shipped_encoder_lie_beside_its_weights(encoder, tmp_path):
    made = kept_windows(encoder)
    assert windows_of(encoder) is made and len(made.phase) >= 20 and set(made.phase.tolist()) == {0, 1, 2, 3}
    middle = made.flux[:, BEFORE, :4].amax(1)
    assert middle.min() > made.still_flux[:4].max() and made.still_flux[:4].max() < 0.05
    again = StrikeVision.from_pretrained(encoder.save_pretrained(tmp_path / "vision"))
    kept = kept_windows(again).state_dict()
    assert all(torch.equal(kept[name], value) for name, value in made.state_dict().items()), "in full precision"
    keep_windows(again, None)
    assert tag_of(again, "vision") == tag_of(encoder, "vision"), "they are none of its weights"
    taken = windows_of(again)
    assert windows_of(again) is taken, "once"
    # another kind of CPU may be sure of a hit more, or of one less
    assert abs(taken.config.count - made.config.count) <= 3
    assert torch.allclose(taken.still_timing, made.still_timing, atol=0.02)
    assert torch.allclose(taken.timing.mean(0), made.timing.mean(0), atol=0.1)
    again.save_pretrained(tmp_path / "vision")
    assert StrikeVision.from_pretrained(tmp_path / "vision").config == encoder.config


def test_tokens_of_the_shipped_encoder(encoder):
    clip = strike_world(seed=0, clips=1, size=64)[0].clip
    plain = encoder.features(clip)
    own = Hits(encoder.hits(clip)).at(0.5)
    reading = encoder.reading(clip)
    assert torch.equal(torch.cat([reading.timing, reading.content], dim=1), plain[:, :288])
    faint = encoder.hits(clip, faint=True)
    assert len(faint) >= len(encoder.hits(clip)) and {h["time_s"] for h in encoder.hits(clip)} <= {
        h["time_s"] for h in faint
    }
    assert encoder.features(clip, own).shape == plain.shape
    none = encoder.features(clip, Hits())
    assert (none[:, 288 : 288 + 73] == 0).all() and (none[:, -1] == 1).all(), "no event at all"
    expected = encoder.expected(encoder.features(clip, own.add(1.0)))
    assert expected[50] > 0.9, "a hit that was given is certain"
