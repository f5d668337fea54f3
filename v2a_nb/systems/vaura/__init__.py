"""V-AURA: next-token prediction over codec tokens."""
