"""The model: a decoder-only transformer, and what can be done with its weights.

    transformer     blocks, norms, feed-forward networks; what goes on inside
    attention       causal attention, with a key-value cache; its weights
    positions       RoPE, and longer contexts by it
    generation      sampling: temperature, top-k, top-p; streams of text
    decoding        the same logits faster: fused weights, one token a step
    long_context    attention in windows, in chunks, and linear attention
    costs           parameters, FLOPs and bytes, computed; bytes held, measured
    quantization    weights of 8 and 4 bits
    folders         models saved and loaded, as Hugging Face folders
    hugging_face    our names and theirs
    gguf_files      weights, tokenizer and settings in one file
    onnx_files      the forward pass as a graph, for other runtimes

Read first: transformer, attention, positions, generation.
"""
