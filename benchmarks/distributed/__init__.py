"""Steps, exchange and start of a distributed job, compared with PyTorch, gloo and Ray."""
