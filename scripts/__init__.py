"""Scripts that a developer or CI runs: demo, version matrix, release check."""
