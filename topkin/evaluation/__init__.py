"""Offline evaluation: protocols, results, segments, summaries, back-tests."""
