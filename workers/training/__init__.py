"""The training loop of one worker: gradients, update, evaluation."""
