"""Level, leakage and kind of a sound's ambience."""
