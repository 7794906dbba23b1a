"""Pictures -> figures: how good drawn pictures are, and whether they were learnt by heart."""
