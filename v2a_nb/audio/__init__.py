"""Sound as numbers: spectrograms, onsets, codecs."""
