"""Measure the speed of sampling, decoding, training and loading, and compare it with the machine's peak."""
