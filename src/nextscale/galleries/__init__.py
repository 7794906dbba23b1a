"""Galleries for evaluation: sampled images, images of a data set, and reconstructions of a tokenizer."""
