"""Retrieval: the training sound whose clip looks most alike."""
