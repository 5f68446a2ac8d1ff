"""How good an architecture is: nets that are trained, alone or as parts of one large net, and what is handed over."""
