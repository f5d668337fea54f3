"""Action2Sound: latent diffusion that is conditioned on a neighbour's sound."""
