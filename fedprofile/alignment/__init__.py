"""Who is who across parties: hashes of normalised ids that every party computes alike, and the spine."""
