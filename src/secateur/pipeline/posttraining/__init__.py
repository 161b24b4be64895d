"""Sparsity after training, from a recipe's stage to a network: closed form, reconstruction, tuning, in a time box."""
