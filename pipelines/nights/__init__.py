"""Stages that look at other nights than their own."""
