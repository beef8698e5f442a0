"""Building blocks of layers, losses and optimizers: array functions, and loops that Numba compiles if installed."""
