"""Loading rows into a batch, compared with numpy.take and PyTorch's DataLoader."""
