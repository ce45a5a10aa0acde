"""From what a user gives as a sound to what an audio tower reads: decoding, resampling, log-mel energies."""
