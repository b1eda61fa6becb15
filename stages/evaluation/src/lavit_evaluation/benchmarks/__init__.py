"""Benchmarks run with a model: official files in, crash-safe answers, the server's result file and a score out."""
