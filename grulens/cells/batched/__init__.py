"""Many runs of one cell side by side, which differ in what is changed on their way."""
