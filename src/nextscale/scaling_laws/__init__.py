"""Logs of runs of several sizes -> scaling laws (VAR, section 4.2): how loss and error fall with size and compute."""
