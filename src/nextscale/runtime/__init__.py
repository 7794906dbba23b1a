"""Devices, processes, memory, signals and progress."""
