"""The coordinator: plan, rounds and sums. Never holds a table, a label, a score or a single update in the clear."""
