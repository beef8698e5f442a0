"""From a dataset's file to the rows of a batch."""
