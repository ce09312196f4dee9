"""Pages to explore explanations: files of HTML that open without a server or a network."""
