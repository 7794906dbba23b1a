"""Whole tasks that combine training with sampling. Nothing but the command line and the web imports these modules."""
