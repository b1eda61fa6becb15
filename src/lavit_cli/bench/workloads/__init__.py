"""One module a workload, with `compare(settings)`, which yields comparisons and what had to be left out."""
