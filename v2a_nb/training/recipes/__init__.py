"""Recipes of the networks that several systems share."""
