"""The model: a decoder-only transformer, and what can be done with its weights.

    transformer     blocks, norms, feed-forward networks; hidden states
    attention       causal attention, with a key-value cache; attention weights
    positions       RoPE, and scaling it for longer contexts
    generation      sampling: temperature, top-k, top-p; streaming text
    decoding        the same logits faster: fused weights, one token at a time
    long_context    windowed, chunked and linear attention
    costs           parameters, FLOPs and bytes, computed; peak memory, measured
    quantization    weights in 8 or 4 bits
    folders         saving and loading models as Hugging Face folders
    hugging_face    our names and theirs
    gguf_files      weights, tokenizer and settings in one file
    onnx_files      the forward pass as a graph, for other runtimes

Read first: transformer, attention, positions, generation.
"""
