"""Clip features in memory, audio-visual pairs that are easy to learn, small networks, and stages that are run alone."""

from __future__ import annotations

import math
from functools import lru_cache
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from datasets import Dataset
from torch import nn

from v2a_nb.data.audio_visual_pairs import AudioVisualPairs
from v2a_nb.data.clip_features import ClipFeatures
from v2a_nb.data.features import ShardedArray
from v2a_nb.data.recordings import StrikeRecordings
from v2a_nb.hub import as_shipped
from v2a_nb.models.audio_spectrogram_transformer import AudioSpectrogramTransformerConfig
