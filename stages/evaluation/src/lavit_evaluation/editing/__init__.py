"""Editing benchmarks: an image and an instruction in, an edited image out, compared with the one a person made."""
