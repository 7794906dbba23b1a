"""Galleries for evaluation: images sampled from a model, of a data set, and reconstructed by a tokenizer."""
