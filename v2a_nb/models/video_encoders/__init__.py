"""Video encoders: frames in, one vector for each token out."""
