"""From the columns of a file to a dataset: features, labels, split, statistics."""
