"""The screen of credit and the logit lens."""
