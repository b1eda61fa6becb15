"""One module a workload. Each has `compare(settings)`, which yields comparisons and what had to be left out."""
