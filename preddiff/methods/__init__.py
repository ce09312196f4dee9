"""Methods: what makes a map of relevance."""
