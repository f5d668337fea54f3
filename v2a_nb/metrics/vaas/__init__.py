"""VAAS, the video-audio alignment score of EgoSonics (section 3.5, supplement H)."""
