"""Sources of images for evaluation: sampled, from a data set, reconstructed."""
