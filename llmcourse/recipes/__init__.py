"""Recipes: what makes the shipped models and their cards.

    cards      a model card: a template in `data/cards`, and what fills it in
    making     what all recipes share: folders, progress, output files
    base       the recipe of `base-llm`
    instruct   the recipe of `instruct-llm`
    align      the recipe of `reward-model` and `aligned-llm`

In the package, only the command line imports this folder.
"""
