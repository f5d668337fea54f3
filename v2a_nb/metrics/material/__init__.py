"""The material that a hit sounds like."""
