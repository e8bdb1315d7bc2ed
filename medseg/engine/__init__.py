"""The only place where stages meet: prepare, train, predict, evaluate."""
