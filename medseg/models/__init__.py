"""Networks: one file a family, each with `Options`, `build` and `divisor`."""
