"""Scores of result files by the official rules of their benchmarks, with numpy alone.

- `score_file`: one result file against the official answers; `catalogue` lists the benchmarks.
- `vqa`, `vizwiz`, `gqa`, `captions`: the rules and file layouts of each benchmark.
- `metrics`: plain functions on strings and arrays; answers are normalized in `metrics.answer_normalization`.
- `estimate`, `bootstrap`: values with 95 % intervals. `compare`: what keeps two scores from being compared.
"""
