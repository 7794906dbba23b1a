"""Scaling laws fitted to the logs of runs of several sizes (VAR, section 4.2): loss and error over size and compute."""
