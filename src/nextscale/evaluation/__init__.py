"""Images -> figures: how good drawn images are, and whether they were learnt by heart."""
