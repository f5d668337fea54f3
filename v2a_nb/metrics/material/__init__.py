"""The material that is heard at a hit."""
