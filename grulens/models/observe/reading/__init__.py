"""Reading the signals of a found cell while its model runs, and changing them on the way."""
