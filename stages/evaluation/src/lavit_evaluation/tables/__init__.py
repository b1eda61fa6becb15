"""Benchmarks as Hugging Face data sets, parquet or save_to_disk: turned into the official files that all else reads."""
