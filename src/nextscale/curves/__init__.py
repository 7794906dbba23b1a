"""Plots of training logs, and comparisons of training losses."""
