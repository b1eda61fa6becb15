"""Generation benchmarks: a model's images in the layout that each benchmark's own judge reads."""
