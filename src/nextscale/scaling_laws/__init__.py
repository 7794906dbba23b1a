"""Scaling laws of loss and error over size and compute, fitted to the logs of several runs (VAR, section 4.2)."""
