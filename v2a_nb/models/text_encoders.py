"""Text encoders: a line of text in, one vector out.

VTA-LDM puts a text's vector beside those of the pictures (section 5.4, appendix D). Both encoders here have ``dim`` and
``encode(texts) -> [B, dim]``, and say with ``unknown_words`` what they could not use of a text.

- :class:`ClipText`: the text tower of CLIP, which the paper takes. Published and frozen.
- :class:`StrikeText`: for ``tiny``, trained with the system that reads it. It knows the words of Strike World's
  narrations, and words that a user would type for them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from v2a_nb.errors import WeightsError
from v2a_nb.hub import Pretrained, find_weights, kind_of, load_one_of, load_weights, read_config, reason
from v2a_nb.models.video_encoders.clip_frames import CLIP_ID

_WORDS_OF = {
    # who does it
    "stick": "stick drumstick rod wand",
    "mallet": "mallet beater",
    "hand": "hand palm finger fist knuckle",
    "hammer": "hammer",
    "knife": "knife knives blade",
    "ball": "ball marble",
    "foot": "foot feet shoe boot",
    # what is done
    "strike": "strike struck hit tap knock beat beaten bang pound smack whack thump slap kick",
    "scrape": "scrape scratch drag rub slide slid grate",
    "bounce": "bounce drop fall fell rebound",
    "miss": "miss",
    "touch": "touch",
    "nothing": "nothing",
    # to what
    "wood": "wood wooden timber oak pine plywood bamboo",
    "metal": "metal metallic steel tin iron brass copper bronze aluminium aluminum silver",
    "glass": "glass crystal",
    "ceramic": "ceramic ceramics china porcelain pottery clay earthenware stoneware",
    "drum": "drum snare bongo djembe tambourine",
    # how often
    "1": "once single 1",
    "2": "twice two double 2",
    "3": "thrice three 3",
    "4": "four 4",
    "5": "five 5",
    "6": "six 6",
    "7": "seven 7",
    "8": "eight 8",
    "9": "nine 9",
    "many": "many several repeatedly often ten",
}
WORDS = tuple(_WORDS_OF)
"""What :class:`StrikeText` tells apart."""
_MEANING = {word: meaning for meaning, words in _WORDS_OF.items() for word in words.split()}
_MATERIALS = ("wood", "metal", "glass", "ceramic", "drum")
_THINGS = {
    thing: material
    for material, things in {
        "wood": "block board plank table desk log crate",
        "metal": "bowl pan pot bell gong rail pipe kettle",
        "glass": "tumbler bottle jar window vase",
        "ceramic": "cup mug plate dish saucer tile",
    }.items()
    for thing in things.split()
}
"""Things and what they are made of where nothing else is said: a cup is ceramic, a metal cup is metal."""
_PLAIN_WORDS = """
a an the on onto of with and then while is are was be being by at in into to it its from against over made some this
that time times sound sounds noise someone something somebody person people
"""
_PLAIN = frozenset(_PLAIN_WORDS.split())
"""Words that are known and change nothing."""
_PARTS = re.compile(r"[,;.]|\b(?:and|then|while)\b")


class ClipText(Pretrained, nn.Module):
    """The text tower of CLIP with its projection: a vector for each text, beside those of its pictures; frozen.

    Args:
        model: a ``CLIPTextModelWithProjection``.
        tokenizer: a ``CLIPTokenizer``; texts end after as many tokens as the model has positions (77).
    """

    kind, title = "clip-text", "CLIP's text encoder"

    def __init__(self, model: nn.Module, tokenizer: Any) -> None:
        super().__init__()
        self.model: Any = model.eval().requires_grad_(False)
        self.tokenizer = tokenizer

    @property
    def dim(self) -> int:
        """Numbers in a vector; 768 for ViT-L/14."""
        return self.model.config.projection_dim

    @torch.no_grad()
    def encode(self, texts: Sequence[str]) -> Tensor:
        """Vectors float32 [B, dim] of texts; the empty text has one as any other has."""
        longest = self.model.config.max_position_embeddings
        tokens = self.tokenizer(
            list(texts), padding="max_length", max_length=longest, truncation=True, return_tensors="pt"
        )
        tokens = tokens.to(next(self.model.parameters()).device)
        return self.model(input_ids=tokens.input_ids, attention_mask=tokens.attention_mask).text_embeds.float()

    def unknown_words(self, text: str) -> list[str]:
        """None: it reads any text, syllable by syllable."""
        return []

    @classmethod
    def from_hub(cls, name: str = CLIP_ID, revision: str | None = None) -> ClipText:
        """A published CLIP by its Hub id, or a folder in transformers' layout.

        The one of the paper, ``openai/clip-vit-large-patch14`` (MIT), is 1.7 GB with its image tower, which is not
        kept; downloaded once.

        Raises:
            WeightsError: it cannot be had.
        """
        from transformers import CLIPTextModelWithProjection, CLIPTokenizer

        where: dict[str, Any] = {"revision": revision}
        try:
            model = CLIPTextModelWithProjection.from_pretrained(name, use_safetensors=True, **where)
            tokenizer = CLIPTokenizer.from_pretrained(name, **where)
        except (OSError, ValueError) as error:
            raise WeightsError(f"{name}: no CLIP there: {reason(error)}") from error
        return cls(model, _fitting(tokenizer, model, name))

    def save_pretrained(self, folder: str | Path, **card: object) -> Path:
        """Write weights and tokenizer; see :meth:`~v2a_nb.hub.Pretrained.save_pretrained`."""
        saved = super().save_pretrained(folder, **card)
        self.tokenizer.save_pretrained(str(folder))
        return saved

    def _network(self) -> nn.Module:
        return self.model

    def _told(self) -> dict[str, Any]:
        settings = {"clip": self.model.config.to_dict()}
        return json.loads(json.dumps(settings, default=str))  # a published configuration may hold types of torch

    @classmethod
    def _read(cls, path: Path, saved: dict[str, Any]) -> ClipText:
        from transformers import CLIPTextConfig, CLIPTextModelWithProjection, CLIPTokenizer

        model = CLIPTextModelWithProjection(CLIPTextConfig.from_dict(saved["clip"]))
        load_weights(model, path, optional=[k for k in model.state_dict() if k.endswith("position_ids")])
        return cls(model, _fitting(CLIPTokenizer.from_pretrained(str(path)), model, path))


def _fitting(tokenizer: Any, model: Any, where: str | Path) -> Any:
    """The tokenizer, if it is the model's: transformers makes an empty one where no files of a tokenizer are."""
    if len(tokenizer) != model.config.vocab_size:
        raise WeightsError(f"{where}: its tokenizer knows {len(tokenizer)} tokens, its model {model.config.vocab_size}")
    return tokenizer


@dataclass(frozen=True)
class StrikeTextConfig:
    """Settings of :class:`StrikeText`.

    Attributes:
        dim: numbers in a vector.
        words: that are told apart, of :data:`WORDS`; weights keep those that they were trained with.
    """

    dim: int = 64
    words: tuple[str, ...] = WORDS


class StrikeText(Pretrained, nn.Module):
    """A small text encoder that knows what can be said of Strike World; it is trained with what reads it.

    Words are reduced to what they mean ("hitting", "taps" and "struck" are one, "steel" is metal, a "mug" is ceramic
    unless it is a "tin mug"). Each is put together with the mean of its part of the sentence, so that "misses the wood
    block" is another wood than "strikes the wood block"; parts end at commas, "and" and "then". What comes of them is
    pooled by its mean and by attention. The order of words in a part, and of parts, changes nothing.

    Words that are not known are left out (:meth:`unknown_words`). A text without any known word is all zeros, as the
    empty one: the null.

    Args:
        dim: numbers in a vector.

    Examples:
        >>> encoder = StrikeText(32)
        >>> same = encoder.encode(["a stick strikes the metal bowl twice", "hitting steel pans two times with a stick"])
        >>> tuple(same.shape), torch.allclose(same[0], same[1], atol=1e-6)
        ((2, 32), True)
        >>> encoder.unknown_words("a gnome taps the plastic cup")
        ['gnome', 'plastic']
    """

    kind, title, config_class = "strike-text", "Strike World's text encoder", StrikeTextConfig
    config: StrikeTextConfig

    def __init__(self, dim: int = 64, words: Sequence[str] = WORDS) -> None:
        super().__init__()
        self.config = StrikeTextConfig(dim, tuple(words))
        self._rows = {word: i + 1 for i, word in enumerate(self.config.words)}
        self.embedding = nn.Embedding(len(words) + 1, dim, padding_idx=0)
        self.mix = nn.Sequential(nn.Linear(2 * dim, 2 * dim), nn.GELU(), nn.Linear(2 * dim, dim))
        self.score = nn.Linear(dim, 1, bias=False)
        self.out = nn.Linear(2 * dim, dim)

    @property
    def dim(self) -> int:
        """Numbers in a vector."""
        return self.config.dim

    def encode(self, texts: Sequence[str]) -> Tensor:
        """Vectors [B, dim] of texts, with gradients; zeros for a text without any known word."""
        read = [[[self._rows[word] for word in part] for part in self.meanings(text)] for text in texts]
        flat = [[(row, k) for k, part in enumerate(parts) for row in part] for parts in read]
        longest = max((len(words) for words in flat), default=0)
        device = self.embedding.weight.device
        if not longest:
            return torch.zeros(len(texts), self.dim, device=device)
        padded = [[*words, *[(0, -1)] * (longest - len(words))] for words in flat]
        rows, part = torch.tensor(padded, device=device).unbind(-1)  # [B, W] each
        known = (rows > 0).float()
        words = self.embedding(rows)  # [B, W, dim]
        together = (part[:, :, None] == part[:, None, :]).float() * known[:, None, :]  # [B, W, W]
        context = together @ words / together.sum(-1, keepdim=True).clamp(min=1)
        words = words + self.mix(torch.cat([words, context], dim=-1))
        count = known.sum(1, keepdim=True)
        mean = (words * known[..., None]).sum(1) / count.clamp(min=1)
        scores = self.score(words)[..., 0].masked_fill(known == 0, -1e9)
        attended = (scores.softmax(-1)[..., None] * words).sum(1)
        return self.out(torch.cat([mean, attended], dim=-1)) * (count > 0)

    def meanings(self, text: str) -> list[list[str]]:
        """Reduce each part of a text to the words of :data:`WORDS` that it means, sorted.

        Parts without any are left out.

        >>> StrikeText(8).meanings("a mallet hits the tin mug, then bounces on the mug")
        [['mallet', 'metal', 'strike'], ['bounce', 'ceramic']]
        """
        parts = ([word for word in _meanings(part) if word in self._rows] for part in _PARTS.split(text.lower()))
        return [sorted(set(part)) for part in parts if part]

    def unknown_words(self, text: str) -> list[str]:
        """Words of a text that mean nothing to this encoder, in their order, each once."""
        unknown = (word for word in _split(text.lower()) if word not in _PLAIN and self._unknown(word))
        return list(dict.fromkeys(unknown))

    def _unknown(self, word: str) -> bool:
        return not any(meaning in self._rows for meaning in _meanings(word))

    @classmethod
    def _build(cls, config: StrikeTextConfig, **parts: Any) -> StrikeText:
        return cls(config.dim, config.words)


def load_text_encoder(name: str | Path) -> ClipText | StrikeText:
    """A text encoder of either kind: a folder, shipped weights, or a published CLIP.

    Raises:
        WeightsError: no such weights, or weights of another kind.
    """
    path = find_weights(name)
    if kind_of(read_config(path)) in ("clip", "clip_text_model"):  # transformers' own layout
        return ClipText.from_hub(str(path))
    return load_one_of(path, "a text encoder", ClipText, StrikeText)


def _split(text: str) -> list[str]:
    return re.findall(r"[^\W_]+", text.replace("'s", ""))


def _meanings(part: str) -> list[str]:
    """Meanings of the words of a part; a thing means its material, where the word before it does not say another."""
    found, material = [], False
    for word in _split(part):
        meaning = _first(word, _MEANING)
        if meaning is None and word.isdigit():
            meaning = "many" if int(word) > 9 else None
        if meaning is None and not material:
            meaning = _first(word, _THINGS)
        if meaning is None and material and _first(word, _THINGS):
            meaning = found[-1]  # "glass bowl" is glass, and bowl is known
        material = meaning in _MATERIALS
        if meaning is not None:
            found.append(meaning)
    return found


def _first(word: str, table: dict[str, str]) -> str | None:
    """What a table says of a word, or of the first of its stems that is there."""
    return next((table[stem] for stem in _stems(word) if stem in table), None)


def _stems(word: str) -> list[str]:
    """A word without the endings of verbs and plurals: "hitting" -> "hitting", "hitt", "hitte", "hit"."""
    stems = [word]
    for ending in ("s", "es", "ed", "d", "ing", "er"):
        if word.endswith(ending) and len(word) - len(ending) > 1:
            stem = word[: -len(ending)]
            stems += [stem, stem + "e"]
            if len(stem) > 2 and stem[-1] == stem[-2]:
                stems.append(stem[:-1])
    return stems
