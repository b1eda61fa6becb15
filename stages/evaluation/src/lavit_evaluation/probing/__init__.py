"""`lavit eval probe`: linear probes through a tokenizer."""
