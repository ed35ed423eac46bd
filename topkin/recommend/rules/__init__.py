"""The rules of a shop over lists: caps, diversity, eligibility, dates and stock."""
