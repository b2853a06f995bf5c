"""What the bank adds to a node: label release, opening of score sums, fusion. True labels live here only."""
