"""How sound is drawn from a trained model: token by token, or by taking noise away."""
