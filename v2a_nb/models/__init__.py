"""Networks that more than one room uses: autoencoder, codecs, vocoder, attention, encoders of sound and video."""
