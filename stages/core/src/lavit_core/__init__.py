"""The contract between lavit's stages: token files, data layouts, model and run directories. Never imports torch."""

__version__ = "0.1.0"
