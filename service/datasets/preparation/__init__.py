"""Preparation of a dataset from columns: features, labels, split, statistics."""
