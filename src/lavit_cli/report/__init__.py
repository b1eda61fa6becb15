"""`lavit report`: one self-contained page about a run; it loads nothing and needs no scripts."""
