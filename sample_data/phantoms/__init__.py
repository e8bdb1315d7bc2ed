"""What the sample data are made of: one module a data set, each a pure function of (seed, number)."""
