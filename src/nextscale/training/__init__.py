"""Training: tasks, the training loop, recipes and runs."""
