"""Synthetic data: images of coloured shapes with captions, questions and the scenes they show."""

__version__ = "0.1.0"
