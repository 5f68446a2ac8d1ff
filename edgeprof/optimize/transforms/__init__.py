"""What may be done to a model: each module has functions that read one file and write others, run apart (../apart.py).

| module | what | kind |
|---|---|---|
| `fixing.py` | fixed batch and shapes (ONNX, TFLite) | lossless |
| `tidying.py` | onnxslim; ONNX Runtime's own optimiser, offline | lossless |
| `rewriting.py` | operators for exactly equal ones that run faster | lossless |
| `onnx_quantized.py` | static, dynamic and weight-only int8, float16 | lossy |
| `tflite_quantized.py` | the same of TFLite, by LiteRT's quantizer | lossy |
| `converting.py` | ONNX to TFLite, where onnx2tf is there | lossless |
"""
