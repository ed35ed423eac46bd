"""The jobs of a run over items alone, one module a stage: no purchases, an encoder that was trained."""
