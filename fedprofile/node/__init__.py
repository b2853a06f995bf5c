"""A party's own side: its home, keys, policy and local training. Sees one party's table and nobody else's."""
