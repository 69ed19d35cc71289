"""Training: next-token prediction, from the loss to a finished base model.

    losses        cross-entropy and its units
    windows       which tokens a batch holds
    optimizers    AdamW and Muon, and which weights learn by which
    loop          all steps of a run, one update
    config        learning rate, precision, the log of a training
    pretraining   next-token prediction on windows of text
    checkpoints   stop, go on, end at the same bits
    parallel      several processes share each batch
    presets       sizes and schedules: tiny, small, `base-llm`, …
    pipeline      all stages from text to a model
    evaluation    loss by document and by word; stories against the grammar
    scaling       how the loss falls with size and data

Read first: losses, optimizers, loop, pretraining.
"""
