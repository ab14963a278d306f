"""Bokeh only: data in, figure out, and update(); no torch model and no widget.

Every view takes numpy arrays, keeps its models for life and patches their data. Values travel
as bytes on the colour map of their signal, never more of them than a screen can show.
"""

from grulens.extras import need

need("lab", "a figure", "bokeh")
