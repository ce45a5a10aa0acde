"""What computes a forward pass: the CPU's kernels, or torch tensors with graphs and copies."""
