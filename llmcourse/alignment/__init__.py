"""Alignment: reinforcement learning from human feedback, step by step.

    gold_reward     what people "really" want, known here exactly
    preferences     pairs of answers, and an annotator who makes mistakes
    losses          of reward models, DPO, PPO and GRPO; advantages
    reward_model    what an answer is worth, and the loop that learns from pairs
    surprisal       an experiment: how surprising each token is, as a feature
    dpo             a policy learns from pairs alone
    rollouts        answers of a policy, and their log-probabilities
    policy          the loop of PPO and GRPO: sample, reward, learn
    ppo             proximal policy optimisation, with a critic
    grpo            group-relative policy optimisation, without one
    verifiable      sums in words, whose answers can be checked; pass@k, votes
    evaluation      gold and proxy reward, win rates, KL divergence, and their curves

Read first: losses, dpo, policy, grpo.
"""
