"""Search spaces of architectures, strategies that ask and are told, and the front of what was found."""
