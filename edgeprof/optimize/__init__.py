"""A faster, leaner file of a model for a device: transforms, an accuracy gate, and a race on the device."""
