"""The training loop and each system's recipe."""
