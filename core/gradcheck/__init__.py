"""The gradient check: backward against differences of forward."""
