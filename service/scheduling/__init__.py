"""From the queue to the cluster: admission, leadership, attempts that are followed."""
