"""Methods, which compute maps of relevance."""
