"""What lies on disk, read safely: the hub and its cache, a checkpoint's folder, JSON, safetensors."""
