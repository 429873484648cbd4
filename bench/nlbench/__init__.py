"""The benchmark driver of nl-jit: see bench/README.md."""
