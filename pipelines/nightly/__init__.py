"""How a run is judged that has no purchases after its date."""
