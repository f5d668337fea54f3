"""Collections of clips: reading them, curating them, and who neighbours whom."""
