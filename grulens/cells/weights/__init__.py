"""Weights from elsewhere, Keras and ONNX, in this house's order and convention."""
