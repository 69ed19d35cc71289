"""Recipes: what makes the shipped models and their cards.

    cards      a model card as data, and its rendering
    making     the one flow: prepare data → train → measure → write the card
    base       the recipe of `base-llm`
    instruct   the recipe of `instruct-llm`
    align      what `reward-model` and `aligned-llm` learn: presets, pairs, trainings
    aligned    their recipe

Only the command line imports this folder.
"""
