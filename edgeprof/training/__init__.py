"""Turn a device into a predictor: small models are drawn and measured until the predictor is good, or time is up."""
