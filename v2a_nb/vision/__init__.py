"""Frames and the networks that read them."""
