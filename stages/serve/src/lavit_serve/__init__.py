"""An HTTP server of one LaVIT model, in the shape of OpenAI's API."""

__version__ = "0.1.0"
