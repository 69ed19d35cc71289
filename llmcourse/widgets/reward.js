// The course's reward model in the page: `llmcourse.alignment.reward_model.RewardModel`,
// a transformer that reads an answer and says how good it is. Each token's vector is told
// how surprising the token was to another model, and more, see `alignment.surprisal`; the reward is
// read from the mean of half of the features and the maximum of the others.
export class RewardModel {
  constructor(body, config, tensors) {
    if (config.reward_pooling !== "mean and max" || !config.reward_reader)
      throw new Error("A reward model of this kind cannot be run here.");
    this.body = body;
    this.surprise = tensors["surprise.weight"]; // (D, 4)
    this.head = tensors["score.weight"]; // (1, D)
    this.offset = config.reward_offset;
  }

  // The reward of some ids, of each of which four numbers are told: surprisal and
  // entropy in nats, its place in the answer, in hundreds, and 1 if it is one of those
  // before it in the answer; before the answer, zeros.
  reward(ids, told) {
    const { body } = this;
    const half = body.width / 2;
    const pooled = new Float32Array(body.width).fill(-Infinity, half);
    body.forget(0);
    ids.forEach((id, t) => {
      const x = body.embed(id);
      add(x, multiply(this.surprise, Float32Array.from(told[t]), body.width));
      rmsNorm(body.pass(x), body.norm, body.eps).forEach((feature, i) => {
        pooled[i] = i < half ? pooled[i] + feature / ids.length : Math.max(pooled[i], feature);
      });
    });
    return multiply(this.head, pooled, 1)[0] - this.offset;
  }
}
