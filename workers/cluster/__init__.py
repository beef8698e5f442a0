"""Workers on a Ray cluster: placement, start, supervision and end."""
