"""The rules of runs: admission, lifecycle, cancellation, and the graphs they run."""
