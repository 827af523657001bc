"""What a model does: completions sampled as in training, their metrics, and its divergence from a reference."""
