"""The agent: what runs on the device. Its core needs Python 3.9 and nothing but the standard library."""
