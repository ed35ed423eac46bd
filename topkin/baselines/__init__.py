"""The models that topkin is measured against."""
