"""What `medseg doctor` looks at, one file a subject."""
