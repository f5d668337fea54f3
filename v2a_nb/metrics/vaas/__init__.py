"""VAAS: the alignment score of EgoSonics (section 4.2)."""
