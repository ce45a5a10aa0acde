"""Benches of the GPU kernels beside their peers: `python -m bench.gpu`."""
