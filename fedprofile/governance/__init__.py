"""Consent, permits and approvals: plain rules, no table and no network."""
