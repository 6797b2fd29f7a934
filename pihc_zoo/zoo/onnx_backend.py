def create_session(path):
    import onnxruntime

    o = onnxruntime.SessionOptions()
    o.log_severity_level = 3
    return onnxruntime.InferenceSession(str(path), o, providers=["CPUExecutionProvider"])
