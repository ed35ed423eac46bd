"""``topkin benchmark``: split files, sequences and shops, judged as published models are, beside the baselines."""
