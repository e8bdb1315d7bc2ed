"""REST, events and a small page, for programs and people."""
