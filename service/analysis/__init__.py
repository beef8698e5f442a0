"""What a trained model does with its rows, in numbers and pictures."""
