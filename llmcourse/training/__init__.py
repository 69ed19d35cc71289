"""Training: next-token prediction, from the loss to a finished base model.

    losses             cross-entropy and its units
    windows            which tokens a batch holds
    loop               one step: gradient, clipping, AdamW
    muon               the other optimizer, for matrices
    config             learning rate, precision, the log of a training
    pretraining        the loop over all steps, with evaluation
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
    studies            stored results of many trainings

Read first: losses, loop, pretraining.
"""
