"""One declarative file a family: from a checkpoint's config and tensor names to a spec and a weight map."""
