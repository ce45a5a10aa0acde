"""One file a dialect: which routes it has, how its bodies are read, how its answers and errors are written."""
