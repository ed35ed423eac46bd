"""Stages that look at other nights than their own: what became of earlier lists, and what gates hold against."""
