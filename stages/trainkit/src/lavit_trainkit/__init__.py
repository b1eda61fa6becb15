"""Leaf functions that the training loops of two or more stages call. No Trainer, and nothing here calls back."""

__version__ = "0.1.0"
