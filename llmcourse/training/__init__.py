"""Training: next-token prediction, from the loss to a finished base model.

    losses             cross-entropy and its units
    windows            which tokens a batch holds
    loop               all steps of a run, one update, the optimizer
    muon               the other optimizer, for matrices
    config             learning rate, precision, the log of a training
    pretraining        next-token prediction on windows of text
    checkpoints        stop, go on, end at the same bits
    tensorboard        the curves of a training, for TensorBoard
    parallel           several processes share each batch
    presets            sizes and schedules: tiny, small, `base-llm`, …
    pipeline           all stages from text to a model
    prepared           what a training reads, kept beside it
    scaling            how the loss falls with size and data
    text_loss          loss by text and by word
    story_evaluation   stories against the grammar
    intervals          how sure a measured share or mean is
    studies            stored results of many runs

Read first: losses, loop, pretraining.
"""
