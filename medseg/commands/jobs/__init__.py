"""Jobs of a site or a batch: list them, explain one, try again, cancel, release, and count."""
