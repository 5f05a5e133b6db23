"""Ray: clusters, training, encoding, studies and tuning. Only this room imports Ray."""
