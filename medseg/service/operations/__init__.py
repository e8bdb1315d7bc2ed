"""What keeps an installation well: room on the disk, alerts, models by version, a doctor."""
