"""Sampling from trained models: autoregressive decoding, and diffusion."""
