"""All video encoders: what each is, where its weights are, under what licence, and how it is loaded.

``python -m v2a_nb.models.video_encoders.registry`` writes ``docs/video_encoders.md``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from v2a_nb.errors import UsageError, WeightsError
from v2a_nb.hub import SHIPPED, Pretrained, kind_of, load_one_of, read_config, shipped


@dataclass(frozen=True)
class EncoderInfo:
    """An entry of :data:`ENCODERS`.

    Attributes:
        what: it is, in a line.
        where: its class, ``file:Class`` in this room.
        id: on the Hub, or the name of shipped weights: what :func:`load_video_encoder` loads by the entry's name.
        licence: of these weights.
        megabytes: that are downloaded, or shipped; None where it is not known.
        rate, dim: tokens a second and channels of a token, with these weights.
        revision: of the Hub repository; None is the newest.
        loads: whether they can be loaded as they are published.
        note: what cannot be loaded, and why; what stands for it.
    """

    what: str
    where: str
    id: str
    licence: str
    megabytes: int | None
    rate: float
    dim: int
    revision: str | None = None
    loads: bool = True
    note: str = ""

    @property
    def encoder_class(self) -> type[Pretrained]:
        """The class."""
        module, name = self.where.split(":")
        return getattr(import_module(f"v2a_nb.models.video_encoders.{module}"), name)


ENCODERS = {
    "clip": EncoderInfo(
        "CLIP ViT-L/14, a vector for each frame; the released VTA-LDM reads it at 2 a second",
        "clip_frames:ClipFrames", "openai/clip-vit-large-patch14", "MIT", 1710, 30.0, 768,
    ),
    "clip4clip": EncoderInfo(
        "CLIP ViT-B/32 trained on video with CLIP4Clip's head meanP",
        "clip4clip:Clip4Clip", "Searchium-ai/clip4clip-webvid150k", "not stated", 605, 2.0, 512,
        "3a366649eef93eaee3aec6ec322c080a83bddfcb",
        note="The paper's authors published no weights, and nobody the head seqTransf: it is trained, or starts from "
        "CLIP's text encoder. What VTA-LDM released under this name is plain CLIP ViT-L/14.",
    ),
    "imagebind": EncoderInfo(
        "OpenCLIP ViT-H/14, of which ImageBind's image tower is made",
        "clip_frames:ClipFrames", "laion/CLIP-ViT-H-14-laion2B-s32B-b79K", "MIT", 3945, 30.0, 1024,
        note="ImageBind itself (imagebind_huge.pth, CC-BY-NC-SA 4.0) is a pickle for classes that transformers lacks."
        " Its image tower was kept frozen at OpenCLIP's in training. PE-AV is the well-kept substitute.",
    ),
    "languagebind": EncoderInfo(
        "OpenCLIP ViT-L/14, a network of the kind that LanguageBind's towers start from",
        "clip_frames:ClipFrames", "laion/CLIP-ViT-L-14-DataComp.XL-s13B-b90K", "MIT", 1710, 30.0, 768,
        note="LanguageBind itself (LanguageBind/LanguageBind_Image and LanguageBind_Video_FT, MIT) is published as "
        "pickles for classes of its own; the one for video has attention over time, which transformers' CLIP lacks.",
    ),
    "pe_av": EncoderInfo(
        "PE-AV's video encoder: a space of video, sound and text",
        "transformer_encoders:PEVideo", "facebook/pe-av-large", "Apache-2.0", None, 10.0, 1792,
        note="Needs timm, in which its image tower is, and transformers 5. The size of the download is not "
        "known here, and the published file was never tried: the layout is that of transformers.",
    ),
    "vjepa2": EncoderInfo(
        "V-JEPA 2 ViT-L/16, self-supervised on video",
        "transformer_encoders:VJepa2", "facebook/vjepa2-vitl-fpc64-256", "MIT", 1304, 2.0, 1024,
        note="The paper's V-JEPA, the version before, is published as pickles for classes of its own.",
    ),
    "vivit": EncoderInfo(
        "ViViT-B/16x2, trained to name actions (Kinetics-400)",
        "transformer_encoders:ViViT", "google/vivit-b-16x2-kinetics400", "MIT", 356, 6.25, 768, "refs/pr/3",
        note="The main branch holds a pickle; the revision is its conversion to safetensors by the Hub's own robot.",
    ),
    "videomae": EncoderInfo(
        "VideoMAE ViT-B/16, self-supervised on video (Kinetics-400)",
        "transformer_encoders:VideoMAE", "MCG-NJU/videomae-base", "CC-BY-NC-4.0", 377, 3.75, 768,
        "dc740ceda42fce44faed2ea03c6d447db72f6af9",
    ),
    "timesformer": EncoderInfo(
        "TimeSformer-B/16, trained to name actions (Kinetics-400)",
        "transformer_encoders:TimeSformer", "facebook/timesformer-base-finetuned-k400", "CC-BY-NC-4.0", 486, 1.0, 768,
        loads=False,
        note="Published as a pickle only, which is never read here. Convert it once where you trust it: "
        "TimesformerModel.from_pretrained(id).save_pretrained(FOLDER), then give FOLDER.",
    ),
    "cavp": EncoderInfo(
        "our audio-visual embedding, frame by frame, which stands for Diff-Foley's CAVP",
        "av_frames:AudioVisualFrames", "av_sim", "MIT", 2, 5.0, 128,
        note="CAVP itself (SimianLuo/Diff-Foley, MIT) is a pickle for classes of its own. It gives 4 vectors a second.",
    ),
    "segment_avclip": EncoderInfo(
        "the visual tower of Segment AVCLIP, which the published V-AURA reads",
        "segment_avclip:SegmentAvclip", "v-iashin/Synchformer", "MIT", None, 12.5, 768,
        loads=False,
        note="Published as a pickle only, of a size that is not known here. Convert it once where you trust it: save "
        "its tensors as safetensors, then SegmentAvclip.from_file(FILE).save_pretrained(FOLDER), and give FOLDER. Or "
        "train one: v2a-nb train segment_avclip.",
    ),
    "strike": EncoderInfo(
        "our own encoder, trained on Strike World, version 1; AV-Sim and AV-Sync read it",
        "strike:StrikeVision", "strike_vision", "MIT", 4, 50.0, 384,
    ),
    "strike_wide": EncoderInfo(
        "the same, trained on both versions of Strike World, for real video; all systems read it",
        "strike:StrikeVision", "vaura/vision", "MIT", 4, 50.0, 384,
    ),
}  # fmt: skip
"""The encoders of VTA-LDM's study (section 5.3, appendix C) and their kin, by name."""


def load_video_encoder(name: str | Path, rate: float | None = None, revision: str | None = None) -> Any:
    """A frozen video encoder of any kind.

    Args:
        name: of :data:`ENCODERS`; a folder, saved here or in the layout of ``transformers``; or a Hub id. Or a system
            that has its encoder in ``vision``, by its name or its folder.
        rate: tokens a second, where the encoder lets one choose; left out, as it was trained.
        revision: of the Hub repository.

    Raises:
        WeightsError: no such weights, weights of another kind, or such as cannot be read.
        UsageError: a rate that is impossible, or for an encoder that has one of its own.

    Examples:
        >>> load_video_encoder("timesformer")
        Traceback (most recent call last):
        ...
        v2a_nb.errors.WeightsError: ...
    """
    info, place, classes, where = _entry(name), shipped_place(name), _classes(), name
    if info is not None:
        if not info.loads:
            raise WeightsError(f"{name} ({info.id}) cannot be loaded. {info.note}")
        where, revision, classes = info.id, revision or info.revision, (info.encoder_class,)
    if place is not None:
        where = SHIPPED / place
    elif info is None and Path(name).expanduser().is_dir():
        where = _encoder_in(Path(name).expanduser())
    encoder = load_one_of(where, "a video encoder", *classes, revision=revision).requires_grad_(False)
    if rate is not None and rate != encoder.rate:
        if not hasattr(encoder, "set_rate"):
            raise UsageError(f"{name} gives {encoder.rate:g} tokens a second; it has no other rate")
        encoder.set_rate(rate)
    return encoder


def shipped_place(name: str | Path) -> str | None:
    """Where among the shipped weights the encoder lies that :func:`load_video_encoder` loads by a name.

    Returns:
        its folder, relative to the shipped weights; None for an encoder of one's own or of the Hub.

    Examples:
        >>> shipped_place("strike_wide"), shipped_place("vaura"), shipped_place("clip")
        ('vaura/vision', 'vaura/vision', None)
    """
    info = _entry(name)
    if info is not None:
        return info.id if (SHIPPED / info.id).is_dir() else None
    if _is_folder(name) or name not in shipped():
        return None
    return _encoder_in(SHIPPED / name).relative_to(SHIPPED).as_posix()


def _entry(name: str | Path) -> EncoderInfo | None:
    """The entry of a name; a folder of weights is none, whatever it is called."""
    return None if _is_folder(name) else ENCODERS.get(str(name))


def _is_folder(name: str | Path) -> bool:
    """Whether a name is a path, or of a folder of weights where one stands: no known name hides these."""
    return isinstance(name, Path) or (Path(name).expanduser() / "config.json").is_file()


def _encoder_in(folder: Path) -> Path:
    """Where the encoder of a folder lies: of a system in ``vision``. An encoder may have a part of that name, too."""
    if not (folder / "vision").is_dir():
        return folder
    kinds = {kind for c in _classes() for kind in (c.kind, *c.other_kinds)}
    return folder if kind_of(read_config(folder)) in kinds else folder / "vision"


def _classes() -> tuple[type[Pretrained], ...]:
    """The classes of all encoders."""
    return tuple(dict.fromkeys(info.encoder_class for info in ENCODERS.values()))


def small(name: str, seed: int = 0) -> Any:
    """A small encoder with random weights in the layout of the published one, for tests and trials.

    Args:
        name: of :data:`ENCODERS`.
        seed: of the weights.

    Raises:
        UsageError: an unknown name.

    Examples:
        >>> small("vivit").encode(clip.frames, fps=25.0).shape  # of 2.56 s
        torch.Size([16, 32])
    """
    if name not in ENCODERS:
        raise UsageError(f"unknown encoder {name!r}; there are {', '.join(ENCODERS)}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return _small(name).eval().requires_grad_(False)


# --- small ones ------------------------------------------------------------------------------------------

_WIDTH: dict[str, Any] = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
_VIT: dict[str, Any] = {**_WIDTH, "image_size": 32, "patch_size": 16}


def _small_clip(encoder_class: Any, **how: Any) -> Any:
    """CLIP with two layers on pictures of 32 pixels; a vector has 24 channels."""
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    model = CLIPVisionModelWithProjection(CLIPVisionConfig(**_VIT, projection_dim=24))
    return encoder_class(model, middle=True, **how)


def _small_transformer(encoder_class: Any, short_side: int = 32, **config: Any) -> Any:
    """A video transformer with two layers, on windows of a few pictures of 32 pixels."""
    published = encoder_class.published
    preprocessing = replace(published.preprocessing, crop=32, short_side=short_side)
    return encoder_class(encoder_class.network(config), replace(published, preprocessing=preprocessing))


def _small(name: str) -> Any:
    """A small encoder with weights from the global generator."""
    made_by: Any = ENCODERS[name].encoder_class
    match name:
        case "clip" | "imagebind" | "languagebind":
            return _small_clip(made_by)
        case "clip4clip":
            return _small_clip(made_by, head="seqTransf", layers=2)
        case "vivit":
            return _small_transformer(made_by, 36, **_WIDTH, image_size=32, num_frames=8, tubelet_size=[2, 16, 16])
        case "videomae":
            return _small_transformer(made_by, **_VIT, num_frames=8, use_mean_pooling=False)
        case "timesformer":
            return _small_transformer(made_by, **_VIT, num_frames=4)
        case "vjepa2":
            predictor = {"pred_hidden_size": 24, "pred_num_attention_heads": 2, "pred_num_hidden_layers": 1}
            return _small_transformer(
                made_by, 36, **_WIDTH, crop_size=32, patch_size=16, frames_per_clip=8, num_pooler_layers=1, **predictor
            )
        case "pe_av":
            tower = {"model_type": "vit", **_VIT, "num_labels": 24}  # a ViT, where the published one is timm's
            return _small_transformer(made_by, 0, **_WIDTH, head_dim=16, vision_config=tower)
        case "cavp":
            from v2a_nb.models.audio_spectrogram_transformer import AudioSpectrogramTransformerConfig
            from v2a_nb.models.av_embedding import AudioVisualEmbeddingConfig
            from v2a_nb.models.video_encoders.clip_transformer import ClipTransformerConfig
            from v2a_nb.models.video_encoders.strike import StrikeVision

            video = ClipTransformerConfig(squeeze=8, dim=32, depth=2, heads=2, mlp=64)
            audio = AudioSpectrogramTransformerConfig(dim=32, depth=2, heads=2, mlp=64)
            return made_by(AudioVisualEmbeddingConfig(dim=24, video=video, audio=audio), StrikeVision())
        case "segment_avclip":
            from v2a_nb.models.video_encoders.segment_avclip import SegmentConfig

            return made_by(SegmentConfig(size=32, dim=32, depth=1, heads=2, mlp=64))
        case _:
            return made_by()


# --- docs ------------------------------------------------------------------------------------------------


def page() -> str:
    """The text of ``docs/video_encoders.md``."""
    lines = [
        "# Video encoders",
        "",
        "Written by `python -m v2a_nb.models.video_encoders.registry > docs/video_encoders.md`; a test compares it.",
        "",
        "Every encoder reads frames and gives one token for each step of time: token i stands for the time",
        "(i + 0.5) / rate. What the published network wants is done inside: frames are picked by their time, resized,",
        "cropped and normalised. All are frozen. A long clip is read window by window.",
        "",
        "```python",
        "from v2a_nb.models.video_encoders.registry import load_video_encoder, small",
        "",
        'encoder = load_video_encoder("clip", rate=2)   # by its name here, a folder, or a Hub id',
        "tokens = encoder.encode(frames, fps=25)        # uint8 [n, height, width, 3] to [T, dim]",
        'tokens = small("vivit").features(clip)         # two random layers of the same layout: no download',
        "```",
        "",
        "`clip`, `clip4clip`, `imagebind`, `languagebind`, `vivit`, `videomae` and `timesformer` also have",
        "`attention(clip)`: the share of attention that each patch gets, `[T, h, w]`.",
        "",
        "| name | encoder | weights | revision | licence | MB | tokens/s | channels |",
        "|---|---|---|---|---|---:|---:|---:|",
    ]
    for name, e in ENCODERS.items():
        where = f"`{e.id}`" + ("" if e.loads else " (to be converted)")
        revision = f"`{e.revision[:10]}`" if e.revision else "shipped" if (SHIPPED / e.id).is_dir() else "newest"
        size = "unknown" if e.megabytes is None else e.megabytes
        lines.append(f"| `{name}` | {e.what} | {where} | {revision} | {e.licence} | {size} | {e.rate:g} | {e.dim} |")
    lines += ["", "What cannot be loaded, and what stands for it:", ""]
    lines += [f"- `{name}`: {e.note}" for name, e in ENCODERS.items() if e.note]
    lines += [
        "",
        "Only safetensors are read: a repository that holds nothing but a pickle is refused, for it can run code.",
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(page(), end="")
