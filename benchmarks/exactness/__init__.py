"""What exactness costs: a training step that gives the same bits anywhere, beside steps that need not."""
