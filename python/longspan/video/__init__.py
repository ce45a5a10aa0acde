"""From what a user gives as a video to what a vision tower reads: decoding, choosing frames, resizing, patches."""
