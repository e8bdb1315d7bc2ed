"""The site's configuration: one YAML file, a file of settings for each section of it."""
