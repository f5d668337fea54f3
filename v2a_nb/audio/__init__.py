"""Signal processing without networks: spectrograms, Griffin-Lim, onsets, loudness."""
