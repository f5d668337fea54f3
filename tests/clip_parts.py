"""Clip features in memory, audio-visual pairs that are easy to learn, small networks, and stages that are run alone."""

from __future__ import annotations
