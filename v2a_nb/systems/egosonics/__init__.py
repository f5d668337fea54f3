"""EgoSonics: SyncroNet on a latent diffusion model."""
