"""From a graph to what runs: lifetimes and offsets of arrays, buffers, the layout of the parameters."""
