"""Plots of training logs, and a verdict on whether a run is on track."""
