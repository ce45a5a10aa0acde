"""From a text to what an encoder reads: prompts, tasks, tokens with their places, sentences."""
