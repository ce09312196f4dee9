"""Samplers, which redraw windows."""
