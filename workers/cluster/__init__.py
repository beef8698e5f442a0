"""Workers on a Ray cluster: placed, started, watched and ended together."""
