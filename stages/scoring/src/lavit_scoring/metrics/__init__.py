"""Metrics as plain functions on strings and arrays: no files, no models, no torch."""
