"""Editing benchmarks: a picture and an instruction in, an edited picture out, compared with the one a person made."""
