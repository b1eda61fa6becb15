"""Scores of result files: official files are read, aligned by id and scored; no model is loaded, no torch imported."""
