"""A causal language model that reads and writes image codes as one more language (arXiv 2309.04669, stage 2)."""

__version__ = "0.1.0"
