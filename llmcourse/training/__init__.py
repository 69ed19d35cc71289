"""Training: next-token prediction, from the loss to a finished base model.

    losses        cross-entropy and its units
    windows       which tokens a batch holds
    optimizers    AdamW and Muon, and which weights use which
    loop          all steps of a run, one update
    config        learning rate, precision, the log of a run
    pretraining   next-token prediction on windows of text
    checkpoints   stop, resume, end with the same bits
    parallel      several processes share each batch
    presets       sizes and schedules: tiny, small, `base-llm`, …
    pipeline      all stages from text to a model
    evaluation    loss by document and by word; comparison with the grammar
    scaling       how the loss falls with size and data

Read first: losses, optimizers, loop, pretraining.
"""
