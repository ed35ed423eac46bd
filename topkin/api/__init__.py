"""The public names of topkin that are more than a function of the core: what ``import topkin`` gives, lazily."""
