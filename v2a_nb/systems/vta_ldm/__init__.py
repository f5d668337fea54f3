"""VTA-LDM: latent diffusion that reads any video encoder, with text, positions or optical flow beside it."""
