// The token that a seed draws. Each place of a text has a random number of its own, so
// that a text that was stopped goes on as if it had not been.
export function seededToken(logits, settings, place) {
  const random = randomFrom(settings.seed);
  for (let i = 0; i < place; i++) random();
  return draw(shape(logits, settings), random());
}
