"""What makes models faster or smaller from outside, without a change of what they compute."""
