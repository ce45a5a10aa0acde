"""From what a user gives as an image to what a vision tower reads: decoding, pages, resizing, patches."""
