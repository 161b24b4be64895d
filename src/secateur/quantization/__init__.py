"""Numbers of few bits for weights and activations: calibrated, learned, and written so that runtimes compute with them."""
