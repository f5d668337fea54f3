"""Video summarization with sound (EgoSonics, section 4.2, supplement F)."""
