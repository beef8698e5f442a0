"""`gradfleet demo`."""
