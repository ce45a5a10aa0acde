"""Triton kernels, one file per op, installed as `longspan.kernels`; the backends of `longspan.ops` load them."""
