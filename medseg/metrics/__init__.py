"""Metrics of one structure in one case: one file each with `UNIT`, `HIGHER_IS_BETTER`, `Options` and `compute`.

nan means undefined: such a case takes no part in a mean and is counted apart. Where exactly one of the two masks is
empty, overlaps are 0 and distances infinite; the evaluator counts the infinite ones rather than averaging them.
"""
