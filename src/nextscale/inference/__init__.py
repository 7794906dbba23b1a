"""Models made ready for drawing, in the precision and the form that a device computes fastest with."""
