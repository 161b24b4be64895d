"""One file per pattern; every file here is found by itself."""
