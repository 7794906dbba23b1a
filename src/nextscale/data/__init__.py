"""Data sets, and batches made from them."""
