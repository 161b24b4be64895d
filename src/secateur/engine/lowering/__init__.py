"""From graph nodes to steps: one file per family of operators."""
