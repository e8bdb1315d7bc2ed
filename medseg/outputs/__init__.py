"""`Prediction` -> a file. Every output writes the exact grid of the scan and appears only when it is complete."""
