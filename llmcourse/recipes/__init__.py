"""Recipes: what makes the shipped models and their cards.

    align_recipe    presets of the reward model and the aligned model
    align_model     makes both
    instruct_model  makes `instruct-llm`
    base_card, instruct_card, align_card, reward_card   what the cards say

Only the command line imports this folder.
"""
