"""`scripts/soak`: a daemon under load and under faults, and whether every promise was kept.

Rule 1: what is right is known beforehand: greedy answers from a plain loop over the model.
Rule 2: what may break, and why, is the table in `survival`; everything else is a finding.
"""
