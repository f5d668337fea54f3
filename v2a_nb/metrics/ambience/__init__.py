"""The ambience of a sound: its level, whether it leaks into action-focused sounds, and its kind."""
