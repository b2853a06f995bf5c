"""The only room where several parties' tables meet: simulated federations and the baselines that need pooled data."""
