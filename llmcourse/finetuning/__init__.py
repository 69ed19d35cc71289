"""Fine-tuning: a pretrained model learns a task, or to follow instructions.

    examples                 prompts and answers with a loss mask
    finetuning               the trainer
    classification           a head that classifies texts
    lora                     low-rank adapters, in PEFT's format
    chat                     the chat template, conversations, their mask
    answering                answers in a conversation
    instructions             tasks about tales, with answers a rule can check
    instruction_tuning       the recipe of `instruct-llm`
    instruction_evaluation   accuracy by kind of task, and what was forgotten

Read first: examples, finetuning, lora.
"""
