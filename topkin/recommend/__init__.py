"""Top-k lists: eligibility, searchers, explanations, repurchase, similar items and users."""
