"""A small CLAP with random weights in the published layout, for tests."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import ClapConfig, ClapFeatureExtractor, ClapModel, ClapProcessor, RobertaTokenizer


def small_clap(folder: Path, truncation: str = "rand_trunc") -> ClapModel:
    """Write model, feature extractor (windows of 2 s) and a tokenizer of single letters; return the model."""
    units = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", "Ġ", *"abcdefghijklmnopqrstuvwxyz"]
    tokenizer = RobertaTokenizer({unit: i for i, unit in enumerate(units)}, [])
    audio = {
        "spec_size": 64, "num_mel_bins": 16, "patch_size": 2, "patch_stride": [2, 2], "depths": [1, 1],
        "num_attention_heads": [2, 2], "patch_embeds_hidden_size": 16, "hidden_size": 32, "window_size": 4,
        "num_hidden_layers": 2, "enable_fusion": False,
    }  # fmt: skip
    text = {
        "vocab_size": len(units), "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
        "num_attention_heads": 4, "max_position_embeddings": 40,
    }  # fmt: skip
    torch.manual_seed(0)
    model = ClapModel(ClapConfig(text_config=text, audio_config=audio, projection_dim=24)).eval()
    model.save_pretrained(folder)
    reader = ClapFeatureExtractor(feature_size=16, max_length_s=2, truncation=truncation)
    ClapProcessor(reader, tokenizer).save_pretrained(folder)
    return model
