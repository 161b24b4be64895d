"""The sparse inference engine: ONNX graphs compiled to native programs. Never imports torch."""
