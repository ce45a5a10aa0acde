"""Speed and quality, measured: run from the root of a checkout, `python -m bench.run --list`."""
